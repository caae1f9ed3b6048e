"""A folder for a file, 5,000 letters, an empty clip: each is answered in a sentence of ours."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from host_graph import face_tokens, face_vertices

pytestmark = pytest.mark.slow

LONG, FOLDER = "x" * 5000, "folder.safetensors"


def nodes(host) -> dict[str, Any]:
    """Node id -> class, as the host has them."""
    listed = host.nodes.NODE_CLASS_MAPPINGS
    return {s.define_schema().node_id: listed[s.define_schema().node_id]
            for s in host.ours("nodes").NODES}  # fmt: skip


def names_of_files(host) -> Iterator[tuple[Any, str, list[str]]]:
    """Class, input and all inputs that it looks at before a prompt begins, for typed names."""
    for node in nodes(host).values():
        looks = getattr(node, "validate_inputs", None)
        taken = list(inspect.signature(looks).parameters) if looks else []
        kinds = {i.id: i.io_type for i in node.define_schema().inputs}
        for name in taken:
            if kinds.get(name) in ("COMBO", "STRING"):
                yield node, name, taken


def is_a_sentence(text: str) -> bool:
    return 20 < len(text) < 900 and LONG[:300] not in text and "Errno" not in text


@pytest.fixture
def folders(host, host_base):
    """A folder with the name of a file wherever files are looked for."""
    assert host
    places = ["models/fantasyid", "models/diffusion_models", "models/loras", "input", "output"]
    made = [host_base / place / FOLDER for place in places]
    for path in made:
        path.mkdir(parents=True)
    yield
    for path in made:
        path.rmdir()


def test_a_folder_in_place_of_a_file_is_said(host, folders):
    assert folders is None
    said = {}
    for node, name, taken in names_of_files(host):
        text = node.validate_inputs(**(dict.fromkeys(taken) | {name: FOLDER}))
        said[f"{node.__name__}.{name}"] = text
    files = {where for where, text in said.items() if "is a folder, where" in str(text)}
    kept = ("file", "mesh_transforms", "face_encoder", "deca", "flame", "lora")
    assert files == {where for where in said if where.rpartition(".")[2] in kept}
    assert len(files) >= 8
    assert all(is_a_sentence(said[where].replace(" folder.safetensors", "")) for where in files)
    loader = [i.id for i in nodes(host)["FantasyIDLoader"].define_schema().inputs]
    with pytest.raises(FileNotFoundError, match="is a folder, where a file is expected"):
        host.run("FantasyIDLoader", **dict.fromkeys(loader, FOLDER) | {"weight_dtype": "default"})
    for loads in ("FantasyIDModelLoader", "FantasyIDAdapterLoader"):  # may be a folder, of weights
        first = nodes(host)[loads].define_schema().inputs[0].id
        rest = {"mesh_transforms": "tiny_transform.pkl", "weight_dtype": "default"}
        taken = [i.id for i in nodes(host)[loads].define_schema().inputs]
        given = {first: FOLDER} | {k: v for k, v in rest.items() if k in taken}
        with pytest.raises(FileNotFoundError, match=r"no weights in .*folder\.safetensors"):
            host.run(loads, **given)


def test_a_name_of_5000_letters_is_answered_before_a_prompt_begins(host):
    found = list(names_of_files(host))
    assert len(found) > 12
    for node, name, taken in found:
        text = node.validate_inputs(**(dict.fromkeys(taken) | {name: LONG}))
        assert isinstance(text, str), f"{node.__name__}.{name} takes it"
        assert is_a_sentence(text), f"{node.__name__}.{name}: {text[:300]}"


def test_5000_letters_in_any_text_end_in_a_sentence(host, loaded, aligned, identity, photo_image):
    tokens, head = (make(host, loaded, aligned[0]) for make in (face_tokens, face_vertices))
    links = {
        "FANTASYID_ADAPTER": loaded["adapter"], "FANTASYID_FACE_TOKENS": tokens,
        "FANTASYID_GEOMETRY": head, "FANTASYID_IDENTITY": identity, "IMAGE": photo_image,
        "FANTASYID_FACE,IMAGE": photo_image, "VIDEO,IMAGE": photo_image, "FANTASYID_DECA": None,
    }  # fmt: skip
    said = {}
    for node_id, node in nodes(host).items():
        schema = node.define_schema()
        texts = [i for i in schema.inputs if i.io_type == "STRING"]
        for text in texts:
            given = {"geometries": {"geometry0": head, "geometry1": head}, "mode": "weighted"}
            given |= {
                "method": "weighted",
                "model": "tiny-fantasyid",
                "recogniser": "none: FM only",
            }
            given = {i.id: given[i.id] for i in schema.inputs if i.id in given}
            for other in schema.inputs:
                if other.id not in given and not other.optional:
                    default = getattr(other, "default", None)
                    options = getattr(other, "options", None)
                    value = options[0] if options and default is None else default
                    given[other.id] = links.get(other.get_io_type(), value)
            try:
                host.run(node_id, **given | {text.id: LONG})
                said[f"{node_id}.{text.id}"] = "a text of any length is well here"
            except (ValueError, FileNotFoundError) as error:
                said[f"{node_id}.{text.id}"] = str(error)
    assert len(said) > 8
    assert {where: text[:300] for where, text in said.items() if not is_a_sentence(text)} == {}


def test_an_empty_clip_is_said_with_the_name_of_the_input(host):
    found = [
        (node_id, entry.id)
        for node_id, node in nodes(host).items()
        for entry in node.define_schema().inputs
        if set(entry.get_io_type().split(",")) & {"IMAGE", "VIDEO"}
    ]
    assert len(found) > 8
    for node_id, name in found:
        for shape in ((0, 64, 64, 3), (1, 0, 64, 3)):
            with pytest.raises(ValueError, match=rf"^{name} is empty, its shape is \({shape[0]}"):
                host.run(node_id, **{name: torch.zeros(shape)})


def test_an_empty_video_is_said(host, photo_image):
    latest = __import__("comfy_api.latest", fromlist=["InputImpl", "Types"])
    parts = latest.Types.VideoComponents(images=photo_image[:0], frame_rate=Fraction(8))
    video = latest.InputImpl.VideoFromComponents(parts)
    collecting = {"detector": "cascade", "views": 6, "choose": "largest", "no_face": "stop"}
    measuring = {"recogniser": "none: FM only", "detector": "cascade", "choose": "largest"}
    for node_id, given in (("FantasyIDMultiView", collecting), ("FantasyIDMetrics", measuring)):
        with pytest.raises(ValueError, match=r"the clip is \(0, .*expected \(frames, H, W, 3\)"):
            host.run(node_id, clip=video, **given)

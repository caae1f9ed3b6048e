"""Whatever lies in a file, a node that reads it has ended within two seconds: none outlasts Stop.

Readers that cannot be stopped are bounded; where gigabytes are read, the stop button is asked.
"""

from __future__ import annotations

import json
import struct
import time

import pytest
from fuzz.programs import in_torch_zip, whole
from geometry.meshes import ascii_ply, glb, glb_numbers

pytestmark = pytest.mark.slow

LIMIT_SECONDS = 2.0  # of processor time
MESH_BYTES = 8 * 1024 * 1024
LISTS = "ply\nformat binary_little_endian 1.0\n"
NUMBERS = ascii_ply(1, 1).replace("end_header", "element more 1\nproperty float w\nend_header")
ADAPTER = {"adapter": "tiny-fantasyid"}
# As long as files of their kind may be, of what takes longest: bytes of the file by its name.
HEADS = {
    "lines.obj": lambda: b"f 1 1 1\n" * (MESH_BYTES // 8),
    "short_lines.obj": lambda: b"\n" * MESH_BYTES,
    "corners.obj": lambda: b"v 1 2 3\nf" + b" 1" * (MESH_BYTES // 2 - 10),
    "text.ply": lambda: (NUMBERS + "1 " * (MESH_BYTES // 2 - 500)).encode(),
    "lists.ply": lambda: (
        (LISTS + LIST_ROWS * 900 + "end_header\n").encode() + bytes(MESH_BYTES // 2)
    ),
    "wide.ply": lambda: (LISTS + WIDE_ROWS + "end_header\n").encode() + bytes(MESH_BYTES // 2),
    "nested.glb": lambda: glb(b"[" + b"[{}]," * 200_000 + b"1]", glb_numbers()),
}
LIST_ROWS = "element face 200000\nproperty list uchar int vertex_indices\n"
WIDE_ROWS = "element face 200000\n" + "property list uchar uchar a\n" * 2000
STEPS = whole(b"}" + b"K\x01K\x01s" * 330_000)
SHARED = b"](" + b"](" + b"N" * 999 + b"eq\x00" + b"h\x00" * 2000 + b"e"
PICKLES = {
    "steps.pkl": lambda: STEPS,
    "shared.pkl": lambda: whole(SHARED),
    "long.pkl": lambda: b"\x80\x02" + b"N0" * 20_000_000,
}
WEIGHTS = {
    "steps.bin": lambda: in_torch_zip(STEPS),
    "shared.bin": lambda: in_torch_zip(whole(SHARED)),
    "many.safetensors": lambda: header({f"{i}": ENTRY for i in range(20_000)}),
    "more.safetensors": lambda: header({f"{i}": ENTRY for i in range(90_000)}),
}
ENTRY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def header(entries: dict) -> bytes:
    text = json.dumps(entries, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("node", "field", "folder", "name", "made", "others"),
    [
        *(
            ("FantasyIDLoadVertices", "file", "input", name, made, {})
            for name, made in HEADS.items()
        ),
        *(
            ("FantasyIDAdapterLoader", "mesh_transforms", "models/fantasyid", name, made, ADAPTER)
            for name, made in PICKLES.items()
        ),
        *(
            ("FantasyIDFaceEncoderLoader", "face_encoder", "models/fantasyid", name, made, {})
            for name, made in WEIGHTS.items()
        ),
        (
            "FantasyIDLoadIdentity",
            "file",
            "input",
            "i.safetensors",
            WEIGHTS["more.safetensors"],
            {},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_no_file_holds_a_node(host, host_base, node, field, folder, name, made, others):
    path = host_base / folder / name
    path.write_bytes(made())
    try:
        begun = time.process_time()
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            host.run(node, **{field: name}, **others)
        assert time.process_time() - begun < LIMIT_SECONDS
    finally:
        path.unlink()


def test_a_long_list_of_choices_opens_no_whole_file(ours, host_base):
    """A drop-down is made in the server's own thread, which answers nothing meanwhile."""
    folder = host_base / "models" / "fantasyid" / "large"
    folder.mkdir()
    with (folder / "config.json").open("wb") as file:
        file.truncate(20 * 1024**3)  # takes no room
    try:
        begun = time.process_time()
        assert "large" not in ours("fantasyid.comfyui.files").model_choices()
        assert time.process_time() - begun < LIMIT_SECONDS
    finally:
        (folder / "config.json").unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    "load", ["FantasyIDModelLoader", "FantasyIDAdapterLoader", "FantasyIDFaceEncoderLoader"]
)
def test_stop_ends_the_first_reading_of_weights(host, stop_button, load):
    """Mapped files are read when their numbers are first looked at: minutes for the real ones."""
    tiny = {"model": "tiny-fantasyid", "adapter": "tiny-fantasyid", "weight_dtype": "default"}
    tiny |= {"face_encoder": "tiny_EVA02_CLIP_L_336_psz14_s6B.pt"}
    tiny |= {"mesh_transforms": "tiny_transform.pkl"}
    names = [i.id for i in host.nodes.NODE_CLASS_MAPPINGS[load].define_schema().inputs]
    stop_button.press()
    with stop_button.stops():
        host.run(load, **{name: tiny[name] for name in names})


def test_long_json_beside_weights_is_not_read(ours, tmp_path):
    read_json = ours("fantasyid.weights.header").read_json
    path = tmp_path / "config.json"
    path.write_bytes(b"[" + b"1," * 5_000_000 + b"1]")
    with pytest.raises(ValueError, match="more than 2097152 bytes"):
        read_json(path)
    path.write_bytes(b"[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)
    path.write_text(json.dumps({"a": [1]}))
    assert read_json(path) == {"a": [1]}

"""Every reader of strangers' files, samples for each, and a child that reads."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def _video(path: Path) -> None:
    from fantasyid.views.frames import frames_of_video

    for _ in frames_of_video(str(path)):
        pass


def _onnx(path: Path) -> None:
    from fantasyid.face.recognizer import open_recognizer

    open_recognizer(path)


def _named(module: str, name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        import importlib

        return getattr(importlib.import_module(f"fantasyid.{module}"), name)(path)

    return read


# Name -> what reads such a file.
READERS: dict[str, Callable[[Path], Any]] = {
    "pickle": _named("weights.safe_pickle", "read_pickle"),
    "torch": _named("weights.read", "read_torch_file"),
    "safetensors": _named("weights.read", "read_weights"),
    "content": _named("weights.content", "inspect_file"),
    "identity": _named("weights.identity_file", "read_identity"),
    "mesh": _named("geometry.files", "read_mesh"),
    "image": _named("views.photos", "read_photo"),
    "video": _video,
    "workflow": _named("evaluation.protocol.workflow", "load_workflow"),
    "onnx": _onnx,
}


def samples(folder: Path) -> dict[str, list[tuple[bytes, str]]]:
    """Sound files of each kind, and those that once hung a reader: content and suffix."""
    import torch
    from fuzz.programs import HANGING, WRAPPERS, whole
    from identities import make_identity
    from PIL import Image
    from safetensors.torch import save
    from weights.python2_pickle import Named, dumps

    from fantasyid.evaluation.protocol.workflow import BUNDLED
    from fantasyid.geometry.files import mesh_bytes
    from fantasyid.weights.identity_file import identity_bytes

    weights = {"a.weight": torch.randn(4, 3), "b": torch.arange(5)}
    saved = []
    for new in (True, False):
        file = io.BytesIO()
        torch.save(weights, file, _use_new_zipfile_serialization=new)
        saved.append((file.getvalue(), ".pt"))
    arrays = {"f": weights["b"].numpy(), "v": Named("chumpy.ch", "Ch", x=weights["b"].numpy())}
    head = torch.rand(8, 3), torch.tensor([[0, 1, 2], [3, 4, 5]])
    hanging = {n: [w(whole(p)) for p in HANGING.values()] for n, w in WRAPPERS.items()}
    found: dict[str, list[tuple[bytes, str]]] = {
        "pickle": [(dumps(arrays, p), ".pkl") for p in (0, 2)]
        + [(content, ".pkl") for content in hanging["f.pkl"]],
        "torch": saved + [(c, ".pt") for n in ("f.pt", "f.bin") for c in hanging[n]],
        "safetensors": [(save(weights), ".safetensors")],
        "content": [*saved, (save(weights), ".safetensors"), (dumps(arrays, 2), ".pkl")],
        "identity": [(identity_bytes(make_identity()), ".safetensors")],
        "mesh": [(mesh_bytes(form, *head), f".{form}") for form in ("ply", "obj", "glb")],
        "image": [],
        "workflow": [(BUNDLED.read_bytes(), ".json")],
    }
    for form in ("png", "jpeg", "webp", "gif", "bmp", "tiff"):
        file = io.BytesIO()
        Image.new("RGB", (40, 30), (200, 90, 30)).save(file, form)
        found["image"].append((file.getvalue(), f".{form}"))
    found["video"] = [(_clip(folder / "sample.mp4"), ".mp4")]
    try:
        from face.tiny_arcface import write_arcface
    except ImportError:  # without the onnx package there is no sample
        return found
    write_arcface(folder / "sample.onnx")
    return found | {"onnx": [((folder / "sample.onnx").read_bytes(), ".onnx")]}


def _clip(path: Path) -> bytes:
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(6):
            picture = np.full((48, 64, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def _child(paths: list[str]) -> None:
    """Read files named `NUMBER.READER.SUFFIX`; one line each."""
    if sys.platform == "linux":  # room for the libraries, and for what a file may ask for
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (16 * 1024**3, 16 * 1024**3))
    for name in paths:
        path = Path(name)
        try:
            READERS[path.name.split(".")[1]](path)
            line = "ok"
        except (ValueError, OSError) as error:
            unnamed = path.name not in str(error) and "video" not in path.name
            line = f"bad: the file is not named: {str(error)[:200]!r}" if unnamed else "ok"
        except ImportError:
            line = "ok"
        except Exception as error:  # noqa: BLE001 (that is what is looked for)
            line = f"bad: {type(error).__name__}: {str(error)[:200]!r}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _child(sys.argv[1:])

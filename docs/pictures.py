"""Make the pictures of the help pages again, with our own nodes on the real host.

    COMFYUI_PATH=DIR python docs/pictures.py

Needs what the tests need. The photo is scikit-image's astronaut (NASA, public domain). All weights
are tiny and random and the head is the project's own sculpture, which the captions say.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "web" / "docs" / "images"
WIDTH, LARGEST_BYTES = 640, 80_000
FRAMES = 48
EDIT = {
    "face_width": 0.5, "jaw_sharpness": 0.5, "chin_depth": 1.0,
    "cheek_depth": 0.0, "nose_depth": 1.0, "brow_depth": 0.0,
}  # fmt: skip

sys.path += [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "face")]


def save(name: str, *parts: Tensor) -> None:
    """Write pictures `(N, H, W, 3)` of one height side by side, as JPEG of 640 pixels at most."""
    row = torch.cat([picture for part in parts for picture in part], dim=1).clamp(0, 1)
    picture = Image.fromarray((row.cpu().numpy() * 255).round().astype(np.uint8))
    picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    path = TARGET / f"{name}.jpg"
    picture.save(path, quality=85, optimize=True)
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise ValueError(f"{path} has {size} bytes, expected {LARGEST_BYTES} at most")
    sys.stdout.write(f"{path.name}: {picture.width} x {picture.height}, {size} bytes\n")


def draw_face(host: Any, photo: Tensor) -> Any:
    """The boxes, the crop and the views of a clip; returns the aligned face."""
    from host_graph import align
    from turning_head import ASTRONAUT_POINTS, Portrait, turning

    left, size = 68, 320
    near = photo[:, :size, left : left + size]
    _, crop, _, found, _ = align(host, near)
    typed = " ".join(f"{x - left},{y}" for x, y in ASTRONAUT_POINTS)
    pointed = align(host, near, points=typed)[3]
    small = interpolate(crop.permute(0, 3, 1, 2), (size, size), mode="area").permute(0, 2, 3, 1)
    save("align_face", found, pointed, small)
    portrait = Portrait(photo[0], ASTRONAUT_POINTS)
    clip = [portrait.render(pose, 480, 640, 2.0, (320, 220)) for pose in turning(FRAMES)]
    sheet = host.run(
        "FantasyIDMultiView",
        clip=torch.stack(clip),
        detector="cascade",
        views=6,
        choose="largest",
        no_face="stop",
    )[2]
    save("collect_views", sheet)
    return align(host, photo)[0]


def draw_heads(host: Any, face: Any, photo: Tensor) -> None:
    """The head as it is read, edited and averaged."""
    files = {"deca": "tiny_deca_model.tar", "flame": "tiny_generic_model.pkl"}
    (deca,) = host.run("FantasyIDDecaLoader", **files)
    adapter = host.run(
        "FantasyIDAdapterLoader", adapter="tiny-fantasyid", mesh_transforms="tiny_transform.pkl"
    )[0]

    def read(source: Any, mode: str) -> Any:
        return host.run("FantasyIDFaceVertices", deca=deca, face=source, mode=mode)[0]

    def views(geometry: Any, *chosen: int) -> Tensor:
        return host.run("FantasyIDVerticesToMesh", geometry=geometry, size=320)[2][list(chosen)]

    released, neutral = read(face, "as released"), read(face, "neutral (paper)")
    save("vertices_to_mesh", views(released, 0, 1, 2))
    save("face_vertices", views(released, 0, 2), views(neutral, 0, 2))
    edited = {"geometry": neutral, "amount": 1.0, "side": "both sides", "size": 320, **EDIT}
    save("edit_geometry", host.run("FantasyIDEditGeometry", adapter=adapter, **edited)[1])
    other = read(photo.flip(2).pow(2.0), "as released")
    heads = {"geometry0": released, "geometry1": other}
    average = host.run(
        "FantasyIDAverageGeometry", geometries=heads, method="mean", weights="", deca=deca
    )[0]
    save("average_geometry", views(released, 1), views(other, 1), views(average, 1))


def main() -> None:
    """Write all pictures."""
    from host_process import Host
    from skimage import data

    from fantasyid.tiny.models import write_tiny_models

    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("custom_nodes", "input", "output", "temp"):
            (base / name).mkdir()
        write_tiny_models(base / "models")
        comfyui = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))
        host = Host(comfyui, base)
        photo = torch.from_numpy(data.astronaut()).float()[None] / 255
        with torch.inference_mode():
            draw_heads(host, draw_face(host, photo), photo)


if __name__ == "__main__":
    main()

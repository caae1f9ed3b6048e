"""Make the pictures of the help pages and of the templates' cards, with our nodes on the real host.

    COMFYUI_PATH=DIR python docs/pictures.py

Needs what the tests need. The photo is scikit-image's astronaut (NASA, public domain), the head the
project's own sculpture; whatever is a video, or measured on one, is of the bundled mini model and
its drawn people. The captions say so.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "web" / "docs" / "images"
WIDTH, LARGEST_BYTES = 640, 80_000
FRAMES = 48
# Of a template's card: its size, the height of the sentence in it, what is behind it.
CARD, SENTENCE, DARK = (384, 384), 72, (24, 26, 32)
EDIT = {
    "face_width": 0.5, "jaw_sharpness": 0.5, "chin_depth": 1.0,
    "cheek_depth": 0.0, "nose_depth": 1.0, "brow_depth": 0.0,
}  # fmt: skip

sys.path += [str(ROOT), str(ROOT / "tests")]


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


def draw_heads(host: Any, loaded: dict[str, Any], face: Any, photo: Tensor) -> None:
    """The head as it is read, edited and averaged."""
    deca, adapter = loaded["deca"], loaded["adapter"]

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


@dataclass(frozen=True, slots=True)
class Studio:
    """The bundled mini model with one of its drawn people in front of it."""

    host: Any
    person: str

    def film(self, prompt: str, seed: int = 42, steps: int = 16, **dials: Any) -> tuple[Any, Any]:
        """A film (17, 96, 96, 3) of the person, and the MODEL with its latent."""
        host = self.host
        model, adapter, clip, vae, tower, head, face, _ = host.run(
            "FantasyIDMiniLoader", person=self.person
        )
        positive, negative = (
            host.run("CLIPTextEncode", clip=clip, text=text)[0] for text in (prompt, "")
        )
        geometry = host.run("FantasyIDFaceVertices", deca=head, face=face, mode="as released")[0]
        tokens = host.run("FantasyIDFaceTokens", face_encoder=tower, adapter=adapter, face=face)[0]
        identity = host.run(
            "FantasyIDFuse", adapter=adapter, face_tokens=tokens, geometry=geometry
        )[0]
        positive, negative, latent, *_ = host.run(
            "FantasyIDFaceLatent", positive=positive, negative=negative, vae=vae, width=96,
            height=96, length=17, face=face,
        )  # fmt: skip
        (applied,) = host.run(
            "FantasyIDApply", model=model, adapter=adapter, identity=identity, strength=1.0, **dials
        )
        made = host.run(
            "FantasyIDSampler", model=applied, positive=positive, negative=negative,
            latent_image=latent, seed=seed, steps=steps, cfg=2.5, sampler="dpm", denoise=1.0,
            dynamic_cfg=False,
        )[0]  # fmt: skip
        return host.run("VAEDecode", samples=made, vae=vae)[0], (applied, made)

    def photo(self) -> Tensor:
        """The person's photo, (512, 512, 3)."""
        return self.host.run("FantasyIDMiniLoader", person=self.person)[7][0]


def draw_injection(host: Any) -> None:
    """What the dials of Apply do to what each block receives at each step."""
    ada = Studio(host, "Ada")

    def report(**dials: Any) -> Tensor:
        _, (applied, latent) = ada.film(
            "a person turns left, blue background", steps=12, record=True, **dials
        )
        return host.run("FantasyIDInjectionReport", model=applied, latent=latent)[0]

    save("injection_report", report())
    motion = host.run("FantasyIDLayerWeights", preset="motion", layers="")[0]
    rows = [
        report(start_percent=0.2, end_percent=0.8),
        report(layer_weights=motion, branches="conditional only"),
    ]
    save("apply_dials", torch.cat(rows, dim=1))


# Template -> whom its card shows doing what.
CARDS = {
    "19_two_people_one_prompt": (("Ada", "Chidi"), "a person turns right, green background"),
    "02_photo_to_video": (("Bela",), "a person turns right, green background"),
    "03_photo_to_video_in_one_node": (("Emil",), "a person nods, blue background"),
    "08_identity_to_video": (("Fumi",), "a person turns left, gray background"),
    "11_best_of": (("Dara",), "a person nods, red background"),
    "17_stages": (("Chidi",), "a person turns left, green background"),
    "18_native_sampling": (("Ada",), "a person turns left, gray background"),
}


def draw_cards(host: Any) -> None:
    """The pictures of all templates; of those that make a video: the photo, frames of two seeds."""
    side, font = 128, ImageFont.load_default(15)
    for name, (people, prompt) in CARDS.items():
        rows = []
        for number in range(2):
            studio = Studio(host, people[number % len(people)])
            seed = 42 if len(people) > 1 else 42 + number
            frames = studio.film(prompt, seed)[0][[0, 8, 16]]
            row = torch.cat([studio.photo()[None], enlarged(frames, 512)])
            rows.append(torch.cat(list(enlarged(row, side)), 1))
        frames = Image.fromarray((torch.cat(rows) * 255).round().byte().numpy())
        picture = Image.new("RGB", (frames.width, frames.height + 46), DARK)
        picture.paste(frames)
        words = f"{' and '.join(people)}: {prompt}\nbundled mini model, drawn people"
        ImageDraw.Draw(picture).multiline_text((8, frames.height + 4), words, (180, 180, 180), font)
        save_card(name, picture)
    for name in sorted(sentences().keys() - CARDS):  # their pictures stay
        with Image.open(ROOT / "workflows" / f"{name}.jpg") as card:
            save_card(name, card.crop((0, 0, CARD[0], CARD[1] - SENTENCE)))


def sentences() -> dict[str, str]:
    """What docs/templates.md says of each template."""
    text = (ROOT / "docs" / "templates.md").read_text("utf-8")
    return dict(re.findall(r"^\| `(\d\d_\w+)` \| (.*) \|$", text, re.M))


def save_card(name: str, picture: Image.Image) -> None:
    """A picture above the template's sentence: ComfyUI's card shows a file's name, and no words."""
    card, high = Image.new("RGB", CARD, DARK), CARD[1] - SENTENCE
    picture = ImageOps.contain(picture, (CARD[0], high))
    card.paste(picture, ((CARD[0] - picture.width) // 2, (high - picture.height) // 2))
    told = sentences()[name]
    words = "\n".join(textwrap.wrap(f"{told[0].upper()}{told[1:]}.", 41))
    font = ImageFont.load_default(18)
    ImageDraw.Draw(card).multiline_text((8, high + 2), words, (235, 235, 235), font)
    path = ROOT / "workflows" / f"{name}.jpg"
    if path.is_file():  # where nothing is new, it is not compressed once more
        with Image.open(path) as old:
            before, now = (np.asarray(one.convert("RGB")).astype(int) for one in (old, card))
        if before.shape == now.shape and np.abs(now - before).max() < 100:
            return
    card.save(path, quality=85, optimize=True)


def enlarged(pictures: Tensor, side: int) -> Tensor:
    """Pictures `(N, H, W, 3)` as squares of that side."""
    channels = pictures.permute(0, 3, 1, 2)
    new = interpolate(channels, (side, side), mode="bilinear", antialias=True)
    return new.permute(0, 2, 3, 1).clamp(0, 1)


def draw_curves() -> None:
    """Lines of numbers that the tooltips name."""
    from fantasyid.cogvideox.schedule import dynamic_cfg_scale
    from fantasyid.injection.steering import PRESETS, LayerWeights

    weights = {preset: LayerWeights(preset).resolve(42) for preset in PRESETS[:3]}
    save("layer_weights", lines(weights, "weight per block, first (left) to last", 1.0))
    steps = [i / 50 for i in range(51)]
    scales = {
        "constant, 6": [6.0] * 51,
        "dynamic_cfg, 6": [dynamic_cfg_scale(6.0, step) for step in steps],
    }
    save("guider", lines(scales, "cfg over the run, first step (left) to last", 7.0))


def lines(curves: dict[str, list[float]], title: str, top: float) -> Tensor:
    """`(1, H, W, 3)` of some curves from 0 to `top` with their names."""
    width, height, left, upper, size = 640, 260, 40, 40, 190
    colors = ((250, 230, 60), (32, 170, 170), (240, 120, 90))
    canvas = Image.new("RGB", (width, height), (24, 24, 26))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    draw.text((left, 10), title, fill=(235, 235, 235), font=font)
    for value in (0.0, top / 2, top):
        y = upper + size * (1 - value / top)
        draw.line((left, y, width - 150, y), fill=(70, 70, 74))
        draw.text((6, y - 8), f"{value:g}", fill=(235, 235, 235), font=font)
    for number, ((name, values), color) in enumerate(zip(curves.items(), colors, strict=False)):
        across = (width - 150 - left) / (len(values) - 1)
        points = [(left + i * across, upper + size * (1 - v / top)) for i, v in enumerate(values)]
        draw.line(points, fill=color, width=3)
        draw.text((width - 140, upper + 24 * number), name, fill=color, font=font)
    return torch.from_numpy(np.array(canvas)).float()[None] / 255


def main() -> None:
    """Write all pictures."""
    from host_graph import load_parts
    from host_process import Host
    from skimage import data

    from demo.folders import prepare_base
    from miniature.models import write_tiny_models

    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base = prepare_base(Path(folder))
        write_tiny_models(base / "models")
        comfyui = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host" / "ComfyUI"))
        host = Host(comfyui, base)
        photo = torch.from_numpy(data.astronaut()).float()[None] / 255
        with torch.inference_mode():
            face = draw_face(host, photo)
            loaded = load_parts(host)
            draw_heads(host, loaded, face, photo)
            draw_injection(host)
            draw_curves()
            draw_cards(host)


if __name__ == "__main__":
    main()

"""Trains what reads the little world's photos: the DECA-shaped encoder and the recognizer.

Both learn from portraits of many people, two of each, none of whom is in a film.
`python -m miniature deca` and `python -m miniature recognizer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from fantasyid.face.crop import cut_crop, fit_similarity, warp_affine
from fantasyid.face.recognizer import ARCFACE_SIZE, ARCFACE_TEMPLATE_PX
from fantasyid.geometry.deca import CODE_SIZE, DecaConfig, DecaEncoder
from fantasyid.geometry.deca_photo import preprocess

from .world.dataset import PHOTO_SIZE
from .world.drawing import PHOTO_ZOOM, draw, five_points
from .world.films import Film
from .world.people import HAIR_STYLES, SHAPES, People, draw_people

STUDIO_SEED = 11
DECA = DecaConfig(8, (8, 16, 32, 64), (1, 1, 1, 1), 128)
SMILE, POSE = 150 + 1, 200  # where a code keeps the second expression and the pose
EMBEDDING = 128


@dataclass(frozen=True, slots=True)
class Portraits:
    """Two portraits each of `B` people.

    Attributes:
        people: Who they are.
        faces: (B, 2, 112, 112, 3) uint8, aligned as ArcFace takes them.
        squares: (B, 224, 224, 3) uint8: DECA's view of the aligned crop of the first.
        pose: (B, 5) of the first, see `Film.pose`.
    """

    people: People
    faces: Tensor
    squares: Tensor
    pose: Tensor


def _moment(source: Generator) -> Film:
    """A pose, light and ground that a photo or a frame may have."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=source))

    pose = [between(-0.9, 0.9), between(-0.4, 0.5), between(-0.1, 0.1), 0.0, 0.0]
    happens = int(torch.randint(4, (), generator=source))
    if happens < 2:
        pose[3 + happens] = between(0.0, (0.5, 4.5)[happens])
    if happens == 3:  # nearly from the front, as a photo for this purpose is
        pose[:2] = between(-0.4, 0.4), between(-0.15, 0.15)
    return Film(
        motion="", background="", light="", prompt="",
        pose=torch.tensor([pose]),
        color=torch.rand(3, generator=source) * 0.3 + between(0.25, 0.5),
        beam=torch.tensor([between(-0.9, 0.9), between(0.2, 0.6), between(0.7, 0.9)]),
        shift=torch.zeros(2),
    )  # fmt: skip


def portraits(first: int, count: int, seed: int = STUDIO_SEED) -> Portraits:
    """Draw people `first` to before `first + count` of the studio."""
    people = draw_people(first + count, seed)[slice(first, None)]
    faces, squares, poses = [], [], []
    for number in range(count):
        source = Generator().manual_seed(1_000_003 * seed + first + number)
        one, moments = people[[number]], [_moment(source) for _ in range(2)]
        pair = draw(people[[number] * 2], moments, PHOTO_SIZE, 1, PHOTO_ZOOM)
        aligned = []
        for place, (moment, picture) in enumerate(zip(moments, pair, strict=True)):
            photo = picture[0].float() / 255
            points = five_points(one, moment, PHOTO_SIZE)[0]
            jitter = 1.5 * torch.randn(5, 2, generator=source)  # as a detector would err
            matrix = fit_similarity((points + jitter).double().numpy(), ARCFACE_TEMPLATE_PX)
            assert matrix is not None
            aligned.append(warp_affine(photo, matrix, ARCFACE_SIZE, (0.0, 0.0, 0.0)))
            if place == 0:
                crop = cut_crop(photo, (points + jitter).tolist())
                squares.append((preprocess(crop[None])[0] * 255).round().byte().permute(1, 2, 0))
                poses.append(moment.pose[0])
        faces.append((torch.stack(aligned).clamp(0, 1) * 255).round().byte())
    return Portraits(people, torch.stack(faces), torch.stack(squares), torch.stack(poses))


def _rate(step: int, steps: int, peak: float) -> float:
    return peak * min(1.0, (step + 1) / 50) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))


def _brightened(pictures: Tensor, source: Generator) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1] in another light."""
    gain = 1.0 + 0.15 * torch.randn(len(pictures), 1, 1, 1, generator=source)
    tint = 1.0 + 0.05 * torch.randn(len(pictures), 3, 1, 1, generator=source)
    return (pictures * gain * tint).clamp(0, 1)


def train_deca(shown: Portraits, held: Portraits, steps: int, seed: int = 0) -> DecaEncoder:
    """Teach the encoder shape, smile and pose; the rest of the code stays zero.

    Pose is written as axis-angle of the head's turn, with the jaw's opening about x.
    """
    torch.manual_seed(seed)
    source, model = Generator().manual_seed(seed), DecaEncoder(DECA)
    last: Any = model.layers[2]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    known = torch.tensor([*range(SHAPES), SMILE, POSE, POSE + 1, POSE + 2, POSE + 3])
    weight = torch.tensor([3.0] * 4 + [0.5] * (SHAPES - 4) + [1.0] + [8.0] * 4)

    def truth(some: Portraits) -> Tensor:
        yaw, pitch, roll, jaw, smile = some.pose.unbind(1)
        return torch.cat([some.people.betas, torch.stack([smile, -pitch, yaw, roll, jaw], 1)], 1)

    wanted, optimizer = truth(shown), torch.optim.AdamW(model.parameters(), 3e-3, (0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps, 4e-3)
        which = torch.randint(len(wanted), (24,), generator=source)
        pictures = shown.squares[which].permute(0, 3, 1, 2).float() / 255
        code = model(_brightened(pictures, source))
        loss = ((code[:, known] - wanted[which]) * weight).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            model.eval()
            with torch.no_grad():
                found = torch.cat([
                    model(s.permute(0, 3, 1, 2).float() / 255)[:, known]
                    for s in held.squares.split(32)
                ])  # fmt: skip
            model.train()
            rest = (found - truth(held)).square().mean(0) / truth(held).var(0)
            told = " ".join(f"{1 - float(r):.2f}" for r in rest[[0, 1, 2, 3, 18, 19, 20, 22]])
            print(f"deca step {step + 1} loss {loss.item():.3f}, explained of size, width, height, "
                  f"jaw, smile, pitch, yaw, opening: {told}", flush=True)  # fmt: skip
    with torch.no_grad():  # what it was not taught it does not tell
        silent = torch.ones(CODE_SIZE, dtype=torch.bool)
        silent[known] = False
        last.weight[silent], last.bias[silent] = 0.0, 0.0
    return model.eval()


class FaceNetwork(nn.Module):
    """The recognizer: strided convolutions to an embedding, with ArcFace's input."""

    def __init__(self) -> None:
        super().__init__()
        widths, parts = (3, 16, 24, 40, 64, 96), []
        for before, after in pairwise(widths):
            parts += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False),
                nn.Conv2d(after, after, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*parts)
        self.embedding = nn.Linear(96 * 4 * 4, EMBEDDING)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, 112, 112) in [-1, 1] to (B, 128)."""
        return self.embedding(self.features(pictures).flatten(1))


def _traits(people: People) -> Tensor:
    """What makes a person, (B, T), each of spread 1."""
    style = F.one_hot(people.style, len(HAIR_STYLES)).float()
    hair = people.hair * (people.style > 0).float()[:, None]
    rows = torch.cat([
        people.betas, people.skin, hair, people.eyes, people.lips, style,
        people.hairline[:, None], people.brow[:, None], people.beard[:, None],
        people.glasses[:, None],
    ], 1)  # fmt: skip
    return (rows - rows.mean(0)) / rows.std(0)


def _worn(faces: Tensor, source: Generator) -> Tensor:
    """Faces (B, 112, 112, 3) uint8 as a film has them: coarser, shifted, in another light."""
    pictures = faces.permute(0, 3, 1, 2).float() / 255
    size = int(torch.randint(34, ARCFACE_SIZE + 1, (), generator=source))
    pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False)
    pictures = F.interpolate(pictures, ARCFACE_SIZE, mode="bilinear", align_corners=False)
    pictures = pictures + 0.02 * torch.randn(pictures.shape, generator=source)
    dx, dy = torch.randint(-4, 5, (2,), generator=source).tolist()
    return _brightened(torch.roll(pictures, (dy, dx), (2, 3)), source) * 2 - 1


def train_recognizer(shown: Portraits, held: Portraits, steps: int, seed: int = 0) -> FaceNetwork:
    """Teach it to tell people apart: their two portraits against others', and their traits."""
    torch.manual_seed(seed)
    source, model = Generator().manual_seed(seed), FaceNetwork()
    traits = _traits(shown.people)
    reader = nn.Linear(EMBEDDING, traits.shape[1])
    optimizer = torch.optim.AdamW([*model.parameters(), *reader.parameters()], 2e-3)
    everyone = torch.arange(64)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps, 3e-3)
        which = torch.randint(len(traits), (64,), generator=source)
        both = [F.normalize(model(_worn(shown.faces[which, n], source))) for n in range(2)]
        alike = both[0] @ both[1].T / 0.07
        told = sum((reader(e * 8.0) - traits[which]).square().mean() for e in both)
        loss = F.cross_entropy(alike, everyone) + F.cross_entropy(alike.T, everyone) + told
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            model.eval()
            one, two = (
                F.normalize(model(_plain(held.faces[:, n]).detach())).detach() for n in range(2)
            )
            model.train()
            alike = one @ two.T
            found = (alike.argmax(1) == torch.arange(len(alike))).float().mean()
            off = alike[~torch.eye(len(alike), dtype=torch.bool)]
            print(f"recognizer step {step + 1} loss {loss.item():.3f} found among {len(alike)}: "
                  f"{float(found):.2f}; cosine own {float(alike.diag().mean()):.2f}, other "
                  f"{float(off.mean()):.2f}", flush=True)  # fmt: skip
    return model.eval()


def _plain(faces: Tensor) -> Tensor:
    return faces.permute(0, 3, 1, 2).float() / 127.5 - 1


def write_onnx(model: FaceNetwork, path: Path) -> None:
    """The recognizer as an ONNX file with ArcFace's input: batch norms folded, half precision."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, before = [], [], "input.1"

    def stored(name: str, tensor: Tensor) -> str:
        """Keep a weight in half precision; returns the name under which it is whole again."""
        weights.append(numpy_helper.from_array(tensor.detach().half().numpy(), f"{name}.half"))
        nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
        return name

    layers = list(model.features)
    for number, layer in enumerate(layers):
        name = f"layer{number}"
        if isinstance(layer, nn.Conv2d):
            weight, bias = layer.weight, torch.zeros(layer.out_channels)
            norm = layers[number + 1]
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                bias = norm.bias - norm.running_mean * scale
                weight = weight * scale[:, None, None, None]
            inputs = [before, stored(f"{name}.weight", weight), stored(f"{name}.bias", bias)]
            nodes.append(helper.make_node(
                "Conv", inputs, [name], kernel_shape=[layer.kernel_size[0]] * 2,
                strides=list(layer.stride), group=layer.groups, pads=[int(layer.padding[0])] * 4,
            ))  # fmt: skip
        elif isinstance(layer, nn.ReLU):
            nodes.append(helper.make_node("Relu", [before], [name]))
        else:
            continue
        before = name
    linear = model.embedding
    inputs = [
        "row", stored("embedding.weight", linear.weight), stored("embedding.bias", linear.bias),
    ]  # fmt: skip
    nodes += [
        helper.make_node("Flatten", [before], ["row"]),
        helper.make_node("Gemm", inputs, ["embedding"], transB=1),
    ]
    side = ARCFACE_SIZE
    graph = helper.make_graph(
        nodes, "miniature_recognizer",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, side, side])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["None", EMBEDDING])],
        weights,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.SerializeToString())

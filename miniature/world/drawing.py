"""Pictures of the little world: the surface of the stand-in head as points in a depth buffer.

A head is a fixed set of points of its surface. Per person the points get a place and a color, per
frame a pose; splats of 2x2 pixels at twice the resolution, averaged, give the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..head import SKIN_VERTICES, build_head
from ..motion import EXPRESSION_FIELDS, JOINTS, build_motion
from .films import Film
from .painting import INSIDE, painted
from .people import SHAPES, People

NECK, JAW_JOINT = (torch.tensor(JOINTS[n], dtype=torch.float32) for n in (1, 2))
ZOOM = 3.15  # picture heights per metre: the head, some 0.24 m high, fills the frame
PHOTO_ZOOM = 2.9
MIDDLE_Y = -0.004  # metres: what stands in the middle of the picture
_FAR = 2**62
# Steps of a quasi-random sequence in the plane, for points that lie evenly in their triangles.
_PLASTIC = (0.7548776662466927, 0.5698402909980532)


@dataclass(frozen=True, slots=True)
class Surface:
    """The template's points, `K` of them.

    Attributes:
        corners: (K, 3) vertices of the triangle of each point; `shares` (K, 3) sum to 1.
        places: (K, 3) metres on the template.
        skinning: (K, 5).
        mouth: (K,) see `HeadMesh.mouth`.
        gaze: (K,) radians off the axis of the eyeball; only where `eye` is true.
        eye: (K,) bool.
        triangles: (T, 3) of the whole mesh.
        template: (V, 3) metres.
        shape: (V, 3, S) metres per coefficient; `smile` (V, 3) of that expression.
    """

    corners: Tensor
    shares: Tensor
    places: Tensor
    skinning: Tensor
    mouth: Tensor
    gaze: Tensor
    eye: Tensor
    triangles: Tensor
    template: Tensor
    shape: Tensor
    smile: Tensor

    def at(self, values: Tensor) -> Tensor:
        """Values (..., V, C) of vertices at the points, (..., K, C)."""
        return (values[..., self.corners, :] * self.shares[..., None]).sum(-2)


def _inside_the_mouth(vertices: Tensor, mouth: Tensor) -> Tensor:
    """Corners (`INSIDE`, 3) of a curtain between the lips, so that an open mouth is no hole."""
    middle = vertices[:, 0].abs() < 0.024
    upper, lower = (
        (rows := (((mouth - height).abs() < 0.01) & middle).nonzero()[:, 0])[
            vertices[rows, 0].argsort()
        ]
        for height in (0.7, -0.7)
    )
    strip = torch.cat([
        torch.stack([upper[:-1], lower[:-1], upper[1:]], 1),
        torch.stack([lower[:-1], lower[1:], upper[1:]], 1),
    ])  # fmt: skip
    return strip[torch.arange(INSIDE) % len(strip)]


@cache
def surface(count: int = 48_000) -> Surface:
    """Spread points over the template, more of them on the face."""
    head = build_head()
    motion = build_motion(head)
    vertices = torch.tensor(head.vertices, dtype=torch.float32)
    triangles = torch.tensor(head.triangles)
    first, second, third = vertices[triangles].unbind(1)
    area = torch.linalg.cross(second - first, third - first).norm(dim=1)
    middle = vertices[triangles].mean(1)
    weight = area * (1.0 + 1.2 * (middle[:, 2] > 0.0)) + area.mean() * 0.2
    weight = weight * (1.0 + 1.0 * (middle[:, 1] > 0.02))  # hair stands off and spreads them
    weight = weight * torch.where(
        triangles.amin(1) >= SKIN_VERTICES, (middle[:, 2] > 0.05) * 1.0, 1.0
    )
    edges = weight.double().cumsum(0)
    skin = count - INSIDE
    along = (torch.arange(skin, dtype=torch.float64) + 0.5) / skin * edges[-1]
    chosen = torch.searchsorted(edges, along).clamp(max=len(edges) - 1)
    u, v = ((torch.arange(count, dtype=torch.float64) * step % 1.0).float() for step in _PLASTIC)
    root = u.sqrt()
    shares = torch.stack([1.0 - root, root * (1.0 - v), root * v], 1)
    corners = triangles[chosen]
    corners = torch.cat([corners, _inside_the_mouth(vertices, torch.tensor(head.mouth))])

    def at(values: Tensor) -> Tensor:
        return (values[corners] * shares[..., None]).sum(1)

    smile = next(i for i, (name, _) in enumerate(EXPRESSION_FIELDS) if name == "smile")
    directions = torch.tensor(motion.shape_directions, dtype=torch.float32)
    parameters = at(torch.tensor(head.parameters, dtype=torch.float32))
    return Surface(
        corners=corners,
        shares=shares,
        places=at(vertices),
        skinning=at(torch.tensor(motion.skinning, dtype=torch.float32)),
        mouth=at(torch.tensor(head.mouth, dtype=torch.float32)[:, None])[:, 0],
        gaze=torch.arccos(parameters[:, 2].clamp(-1.0, 1.0)),
        eye=corners.amin(1) >= SKIN_VERTICES,
        triangles=triangles,
        template=vertices,
        shape=directions[:, :, :SHAPES].contiguous(),
        smile=directions[:, :, 301 + smile].contiguous(),
    )


def heads(people: People, smile: float = 0.0) -> Tensor:
    """The vertices of people, (B, V, 3) metres, without pose."""
    here = surface()
    shaped = here.template + torch.einsum("vcs,bs->bvc", here.shape, people.betas)
    return shaped + smile * here.smile


def _normals(vertices: Tensor) -> Tensor:
    """Of vertices (B, V, 3), of length 1."""
    triangles = surface().triangles
    first, second, third = (vertices[:, triangles[:, n]] for n in range(3))
    face = torch.linalg.cross(second - first, third - first)
    total = torch.zeros_like(vertices)
    for n in range(3):
        total.index_add_(1, triangles[:, n], face)
    return F.normalize(total, dim=-1)


def turns(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Rotations (..., 3, 3): yaw turns the face to the picture's right, pitch looks up."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    cos, sin = yaw.cos(), yaw.sin()
    about_y = matrix((cos, zero, sin), (zero, one, zero), (-sin, zero, cos))
    cos, sin = pitch.cos(), pitch.sin()
    about_x = matrix((one, zero, zero), (zero, cos, sin), (zero, -sin, cos))
    cos, sin = roll.cos(), roll.sin()
    about_z = matrix((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))
    return about_z @ about_y @ about_x


def _posed(points: Tensor, skinning: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
    """Points (F or 1, K, 3) in the poses (F, 5) of a film, (F, K, 3), and rotations (F, 3, 3)."""
    rotation = turns(*pose[:, :3].unbind(1))
    jaw = pose[:, 3]
    lift = torch.zeros(1)
    if bool((jaw > 1e-3).any()):
        still = torch.zeros_like(jaw)
        drop = turns(still, -jaw, still) - torch.eye(3)
        lift = (points - JAW_JOINT) @ drop.transpose(1, 2) * skinning[:, 2:3]
    local = points + lift - NECK
    turned = local @ rotation.transpose(1, 2)
    return turned + skinning[:, 0:1] * (local - turned) + NECK, rotation


def draw(
    people: People,
    films: Sequence[Film],
    size: int = 96,
    oversampling: int = 2,
    zoom: float = ZOOM,
) -> list[Tensor]:
    """One film of each person.

    Args:
        people: `B` people.
        films: As many.
        size: Of the square picture, in pixels.
        oversampling: Of the picture before it is averaged.
        zoom: Picture heights per metre.

    Returns:
        Per film (F, size, size, 3) uint8.
    """
    here = surface()
    color, puff = painted(people, here)
    shaped = heads(people)
    normals = _normals(shaped)
    made = []
    for n, film in enumerate(films):
        normal = F.normalize(here.at(normals[n]), dim=-1)
        points = here.at(shaped[n]) + normal * puff[n][:, None]
        smile = film.pose[:, 4]
        if bool((smile > 1e-3).any()):
            points = points + smile[:, None, None] * here.at(here.smile)
        else:
            points = points[None]
        made.append(_film(points, normal, color[n], film, size * oversampling, oversampling, zoom))
    return made


def _film(
    points: Tensor, normal: Tensor, color: Tensor, film: Film, size: int, pool: int, zoom: float
) -> Tensor:
    frames, count = len(film.pose), len(color)
    placed, rotation = _posed(points, surface().skinning, film.pose)
    facing = normal @ rotation.transpose(1, 2)  # (F, K, 3)
    frame, who = (facing[..., 2] > -0.15).nonzero(as_tuple=True)
    q = placed[frame, who]
    scale, pad = size * zoom, size + 4  # splats outside land in the margin
    dx, dy = (film.shift * size).tolist()
    column = (q[:, 0] * scale + (size / 2 + dx + 1.5)).floor().clamp(0, pad - 2).long()
    row = ((q[:, 1] - MIDDLE_Y) * -scale + (size / 2 + dy + 1.5)).floor().clamp(0, pad - 2).long()
    key = ((0.5 - q[:, 2]) * 2**20).long() * 65536 + who
    buffer = torch.full((frames * pad * pad,), _FAR)
    cell = (frame * pad + row) * pad + column
    for step in (0, 1, pad, pad + 1):
        buffer.scatter_reduce_(0, cell + step, key, "amin")
    buffer = buffer.view(frames, pad, pad)
    near = torch.stack([
        buffer[:, 1:-3, 2:-2], buffer[:, 3:-1, 2:-2], buffer[:, 2:-2, 1:-3], buffer[:, 2:-2, 3:-1],
    ])  # fmt: skip
    buffer = buffer[:, 2:-2, 2:-2]
    hole = (buffer == _FAR) & ((near < _FAR).sum(0) >= 3)
    buffer = torch.where(hole, near.amin(0), buffer)
    toward = F.normalize(film.beam, dim=0)
    lambert = ((facing @ toward + 0.3) / 1.3).clamp(min=0)
    rim = (1 - facing[..., 2].clamp(min=0)) ** 3
    shade = 0.42 + 0.62 * lambert + 0.10 * facing[..., 1].clamp(min=0) - 0.18 * rim
    shaded = (color * shade[..., None]).clamp(0, 1).view(-1, 3)  # (F K, 3)
    fade = torch.linspace(0.05, -0.05, size)[:, None, None]
    picture = (film.color + fade).clamp(0, 1).expand(size, size, 3).repeat(frames, 1, 1, 1)
    seen = buffer < _FAR
    at = torch.arange(frames)[:, None, None] * count + buffer % 65536
    picture[seen] = shaded[at[seen]]
    small = (
        F.avg_pool2d(picture.permute(0, 3, 1, 2), pool) if pool > 1 else picture.permute(0, 3, 1, 2)
    )
    return (small * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@cache
def _landmarks() -> tuple[Tensor, Tensor]:
    """Vertices of eyes, nose tip and mouth corners, and their skinning (5, 5)."""
    here = surface()
    wanted = torch.tensor([
        [-0.0315, 0.0185, 0.062], [0.0315, 0.0185, 0.062], [0.0, -0.022, 0.110],
        [-0.0255, -0.0535, 0.078], [0.0255, -0.0535, 0.078],
    ])  # fmt: skip
    ball = torch.arange(len(here.template)) >= SKIN_VERTICES
    nearest = torch.cat([
        torch.cdist(wanted[rows], here.template + 9.0 * (ball != eyes)[:, None]).argmin(1)
        for rows, eyes in ((slice(0, 2), True), (slice(2, 5), False))
    ])  # fmt: skip
    skinning = torch.tensor(build_motion(build_head()).skinning, dtype=torch.float32)
    return nearest, skinning[nearest]


def five_points(people: People, film: Film, size: int, zoom: float = PHOTO_ZOOM) -> Tensor:
    """Where eyes, nose tip and mouth corners of one person are, (F, 5, 2) pixels.

    In the order of `face/points.py`: left eye, right eye, nose, left and right mouth corner, as
    the viewer sees them.
    """
    here, (nearest, skinning) = surface(), _landmarks()
    points = heads(people)[:, nearest] + film.pose[:, 4, None, None] * here.smile[nearest]
    placed, _ = _posed(points, skinning, film.pose)
    x = (placed[..., 0] * zoom + 0.5 + film.shift[0]) * size
    y = ((placed[..., 1] - MIDDLE_Y) * -zoom + 0.5 + film.shift[1]) * size
    return torch.stack([x, y], -1)

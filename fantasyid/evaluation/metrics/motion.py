"""FM: how much the face moves from one frame to the next, with and without the camera.

FM is the mean length of the dense optical flow inside the face, as a percentage of the face's
size (the square root of the area of its box) per frame: so it does not depend on the resolution.
In pixels per frame it is given beside it. The camera's part is a similarity (shift, turn, zoom)
that is fitted to the flow of what surrounds the person.

Frames with a large face are reduced before, so that the face is 80 pixels: where skin is smooth
over more than the window of the flow, Farneback's method sees too little motion (a fifth of it
at a face of 260 pixels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from .flow import SMALLEST_SIDE_PX, dense_flow

Box = tuple[float, float, float, float]

# Size of the face at which the flow is measured; smaller ones are left as they are.
FACE_PX = 80

# The head with its hair, in heights and widths of the face's box; the body is below it.
_HEAD_ABOVE, _HEAD_BESIDE = 1.0, 0.8
# Only places with texture tell where they went: least eigenvalue of the gradients, gray levels
# of 255 squared per pixel, over a window of this width; every eighth pixel is asked.
_LEAST_TEXTURE, _TEXTURE_WINDOW, _STEP = 4.0, 15, 8
_LEAST_PLACES = 24
_ROUNDS = 12
# Flow is right to about this many pixels; what differs more is no part of the camera's motion.
_FINEST_PX = 0.25
_LEAST_SHARE, _FAR = 0.3, 4.0


@dataclass(frozen=True, slots=True)
class FaceMotion:
    """The motion of a face from one frame to the next."""

    px: float  # mean length of the flow in the face, in pixels
    # The same with the camera's motion taken off; None where the surroundings do not tell it.
    still_px: float | None
    face_px: float  # size of the face: the square root of the area of its box

    @property
    def percent(self) -> float:
        """FM: percent of the face's size per frame."""
        return 100 * self.px / self.face_px

    @property
    def still_percent(self) -> float | None:
        """FM without the camera's motion."""
        return None if self.still_px is None else 100 * self.still_px / self.face_px


def face_motion(
    before: NDArray[np.float32], now: NDArray[np.float32], box: Box, device: torch.device | str
) -> FaceMotion | None:
    """The motion of one face between two frames.

    Args:
        before: `(H, W)` gray in 0 to 255.
        now: The next frame.
        box: `(x0, y0, x1, y1)` of the face in `before`, pixels.
        device: Where the flow is calculated.

    Returns:
        In pixels of these pictures; None where the box lies outside of them.
    """
    height, width = before.shape
    face_px = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    scale = min(1.0, FACE_PX / face_px)
    size = [
        max(SMALLEST_SIDE_PX, round(height * scale)),
        max(SMALLEST_SIDE_PX, round(width * scale)),
    ]
    first, second = (_resize(picture, size, device) for picture in (before, now))
    step = first.new_tensor([size[1] / width, size[0] / height])  # of this copy per pixel
    x0, y0, x1, y1 = (v * float(step[i % 2]) for i, v in enumerate(box))
    region = face_region((x0, y0, x1, y1), *size).to(device)
    if not region.any():
        return None
    (flow,) = dense_flow(first[None], second[None])
    camera = camera_motion(flow, first, (x0, y0, x1, y1))
    rest = None if camera is None else _length((flow - camera) / step)[region].mean().item()
    return FaceMotion(_length(flow / step)[region].mean().item(), rest, face_px)


def _resize(picture: NDArray[np.float32], size: list[int], device: torch.device | str) -> Tensor:
    gray = torch.from_numpy(np.ascontiguousarray(picture))[None, None]
    if list(picture.shape) != size:
        gray = interpolate(gray, size, mode="bilinear", antialias=True)
    return gray[0, 0].to(device)


def _length(flow: Tensor) -> Tensor:
    return torch.linalg.vector_norm(flow, dim=-1)


def face_region(box: Box, height: int, width: int) -> Tensor:
    """`(H, W)` bool: the ellipse that fills the face's box, without its corners."""
    x0, y0, x1, y1 = box
    x = (torch.arange(width) - (x0 + x1) / 2) / ((x1 - x0) / 2)
    y = (torch.arange(height) - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return x**2 + y[:, None] ** 2 <= 1


def surroundings(box: Box, height: int, width: int) -> Tensor:
    """`(H, W)` bool: everything beside and above the head; below it is the body."""
    x0, y0, x1, y1 = box
    x, y = torch.arange(width), torch.arange(height)[:, None]
    beside = _HEAD_BESIDE * (x1 - x0)
    over_person = (x > x0 - beside) & (x < x1 + beside)
    return ~(over_person & (y > y0 - _HEAD_ABOVE * (y1 - y0)))


def camera_motion(flow: Tensor, gray: Tensor, box: Box) -> Tensor | None:
    """The flow that the camera's motion causes.

    Places that move otherwise (hands, other people) weigh less from round to round.

    Args:
        flow: `(H, W, 2)` pixels.
        gray: `(H, W)` the picture where the flow begins.

    Returns:
        `(H, W, 2)` on the device of `flow`; None where too little of the surroundings has
        texture, or no one motion explains a third of it.
    """
    height, width = gray.shape
    usable = surroundings(box, height, width).to(gray.device) & (texture(gray) > _LEAST_TEXTURE)
    rows, columns = torch.nonzero(usable[::_STEP, ::_STEP], as_tuple=True)
    if len(rows) < _LEAST_PLACES:
        return None
    rows, columns = rows * _STEP, columns * _STEP
    places = columns.cpu().numpy() + 1j * rows.cpu().numpy()
    seen = flow[rows, columns].cpu().double().numpy()
    fitted = _fit_similarity(places, seen[:, 0] + 1j * seen[:, 1])
    if fitted is None:
        return None
    turn, shift = fitted
    x = torch.arange(width, dtype=torch.float32, device=flow.device)
    y = torch.arange(height, dtype=torch.float32, device=flow.device)[:, None]
    return torch.stack(
        [
            turn.real * x - turn.imag * y + shift.real,
            turn.imag * x + turn.real * y + shift.imag,
        ],
        dim=-1,
    )


def _fit_similarity(places: NDArray, steps: NDArray) -> tuple[complex, complex] | None:
    """The turn and shift with `steps ~ turn * places + shift`, robustly; x + iy throughout."""
    middle = complex(np.median(np.real(steps)), np.median(np.imag(steps)))
    residual = np.abs(steps - middle)
    radius = max(_FINEST_PX, 1.5 * float(np.median(residual)))
    turn, shift = 0j, middle
    for _ in range(_ROUNDS):
        weights = 1 / (1 + (residual / radius) ** 2) ** 2
        weights /= weights.sum()
        place, step = weights @ places, weights @ steps
        spread = float(weights @ np.abs(places - place) ** 2)
        turn = complex(weights @ (np.conj(places - place) * (steps - step)) / max(spread, 1e-9))
        shift = complex(step - turn * place)
        residual = np.abs(steps - turn * places - shift)
        radius = max(_FINEST_PX, 0.7 * radius)
    return (turn, shift) if np.mean(residual < _FAR * _FINEST_PX) >= _LEAST_SHARE else None


def texture(gray: Tensor) -> Tensor:
    """`(H, W)` how firmly each place of a gray picture in 0 to 255 can be followed."""
    padded = pad(gray[None, None].float(), (1, 1, 1, 1), "replicate")[0, 0]
    by_x = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    by_y = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    products = torch.stack([by_x * by_x, by_x * by_y, by_y * by_y])[None]
    half = _TEXTURE_WINDOW // 2
    xx, xy, yy = avg_pool2d(pad(products, (half,) * 4, "replicate"), _TEXTURE_WINDOW, 1)[0]
    return (xx + yy) / 2 - torch.sqrt(((xx - yy) / 2) ** 2 + xy**2)

"""Photo and five facial points to the aligned 512 px crop.

Does in numpy and torch what the released pipeline does with OpenCV and facexlib: the random
pairs of OpenCV's least-median-of-squares fit, its Lanczos filter and its bilinear warp
(docs/released-model.md, section 0).

Points are `(5, 2)` pixels, x right, y down, the center of the first pixel at (0, 0): left eye,
right eye, nose, left mouth corner, right mouth corner, where *left* is the left of the picture
when the face is upright.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

CROP_SIZE = 512
LONG_SIDE_LIMIT = 1024
BORDER_RGB = (132 / 255, 133 / 255, 135 / 255)

# Where the five points lie in the released crop of 512 px (the template of FFHQ-like crops).
FACE_TEMPLATE_PX = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)

TEMPLATE_EYE_DISTANCE_PX = float(FACE_TEMPLATE_PX[1, 0] - FACE_TEMPLATE_PX[0, 0])

# A bilinear warp by less than this would skip pixels.
_REDUCE_BELOW = 0.6

# OpenCV's least-median fit: chance of one clean pair, share of bad points that it expects.
_CONFIDENCE, _OUTLIERS = 0.99, 0.45
_RNG_SEED, _RNG_FACTOR = 2**64 - 1, 4164903690


def fit_similarity(source: NDArray, target: NDArray) -> NDArray | None:
    """Least-squares rotation, scale and shift `(2, 3)`; None where all source points coincide."""
    p, q = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    p_mean, q_mean = p.mean(), q.mean()
    spread = float((np.abs(p - p_mean) ** 2).sum())
    if spread == 0:
        return None
    turn = (np.conj(p - p_mean) * (q - q_mean)).sum() / spread
    shift = q_mean - turn * p_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _random_pairs(count: int, rounds: int) -> Iterator[list[int]]:
    """The index pairs that OpenCV draws: a multiply-with-carry generator of fixed seed."""
    state = _RNG_SEED

    def draw() -> int:
        nonlocal state
        state = (state % 2**32 * _RNG_FACTOR + state // 2**32) % 2**64
        return state % 2**32 % count

    for _ in range(rounds):
        first = second = draw()
        while second == first:
            second = draw()
        yield [first, second]


def similarity_lmeds(points_px: ArrayLike, template_px: ArrayLike) -> NDArray[np.float64]:
    """The similarity transform that takes points to a template, robust against bad points.

    Released behavior: OpenCV's `estimateAffinePartial2D(..., method=LMEDS)`. Of 13 random pairs
    the one with the least median error tells which points fit; those are fitted by least
    squares. The pairs are always the same ones, so the result is a plain function of the points.

    Args:
        points_px: `(N, 2)`, N > 2.
        template_px: `(N, 2)`.

    Returns:
        `(2, 3)`: `template ~ matrix[:, :2] @ point + matrix[:, 2]`.

    Raises:
        ValueError: The shapes differ, a number is not finite, or too many points coincide.
    """
    # OpenCV reads the points as float32.
    source = np.asarray(points_px, np.float32).astype(np.float64)
    target = np.asarray(template_px, np.float32).astype(np.float64)
    count = len(source)
    if source.shape != (count, 2) or target.shape != source.shape or count < 3:
        raise ValueError(
            f"points are {source.shape}, template is {target.shape}: expected (N, 2) twice, N > 2"
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("a facial point is not a finite number")
    rounds = round(math.log(1 - _CONFIDENCE) / math.log(1 - (1 - _OUTLIERS) ** 2))
    best_median, best_errors = math.inf, None
    for pair in _random_pairs(count, rounds):
        matrix = fit_similarity(source[pair], target[pair])
        if matrix is None:
            continue
        residual = source @ matrix[:, :2].T + matrix[:, 2] - target
        errors = (residual**2).sum(1).astype(np.float32)
        median = float(np.sort(errors)[count // 2])
        if median < best_median:
            best_median, best_errors = median, errors
    if best_errors is not None:
        deviation = 2.5 * 1.4826 * (1 + 5 / (count - 2)) * math.sqrt(best_median)
        good = best_errors <= np.float32(max(deviation, 0.001) ** 2)
        matrix = fit_similarity(source[good], target[good])
        if matrix is not None:
            return matrix
    raise ValueError("the facial points coincide: no crop can be fitted to them")


def warp_affine(
    photo: Tensor, matrix: ArrayLike, size: int, border: Sequence[float] = BORDER_RGB
) -> Tensor:
    """Resample a photo through an affine map, bilinearly.

    Args:
        photo: `(H, W, C)`.
        matrix: `(2, 3)`, photo pixels to result pixels.
        size: Side of the result in pixels.
        border: Color outside the photo, one number per channel; the edge blends into it.

    Returns:
        `(size, size, C)` in the dtype of `photo`.

    Raises:
        ValueError: The map cannot be inverted.
    """
    forward = np.vstack([np.asarray(matrix, np.float64), [0.0, 0.0, 1.0]])
    if not np.isfinite(forward).all() or abs(np.linalg.det(forward)) < 1e-12:
        raise ValueError(f"the alignment matrix cannot be inverted: {forward[:2].tolist()}")
    inverse = torch.from_numpy(np.linalg.inv(forward)[:2])
    height, width = photo.shape[:2]
    axis = torch.arange(size, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ inverse.T  # (size, size, 2)
    grid = (2 * places + 1) / torch.tensor([width, height], dtype=torch.float64) - 1
    # Outside is zero, so the border color is taken off before and added after.
    color = torch.tensor(border, dtype=torch.float64)
    shifted = (photo.to("cpu", torch.float64) - color).permute(2, 0, 1)[None]
    crop = grid_sample(shifted, grid[None], padding_mode="zeros", align_corners=False)
    return (crop[0].permute(1, 2, 0) + color).to(photo)


def align_crop(
    photo: Tensor, points_px: ArrayLike, size: int = CROP_SIZE, padding: float = 1.0
) -> tuple[Tensor, NDArray[np.float64]]:
    """The aligned face.

    Args:
        photo: `(H, W, 3)` RGB in [0, 1].
        points_px: `(5, 2)` pixels of the photo.
        size: Side of the crop.
        padding: How much of the photo the crop shows: 1 as released, 2 twice as much to each side.

    Returns:
        `(size, size, 3)` RGB in [0, 1] in steps of 1/255, and the `(2, 3)` matrix from photo
        pixels to crop pixels.

    Raises:
        ValueError: The photo or the points have another shape, the points coincide, or the
            padding is not positive.
    """
    if not (math.isfinite(padding) and padding > 0):
        raise ValueError(f"the padding is {padding}, expected a positive number")
    if photo.ndim != 3 or photo.shape[-1] != 3:
        raise ValueError(f"the photo is {tuple(photo.shape)}, expected (H, W, 3)")
    template = (FACE_TEMPLATE_PX - CROP_SIZE / 2) / padding + CROP_SIZE / 2
    matrix = similarity_lmeds(points_px, template * (size / CROP_SIZE))
    return _eight_bit(warp_affine(photo, matrix, size)), matrix


def _eight_bit(picture: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 1/255.

    Released behavior: every step before the networks works on 8-bit pictures. It also makes a
    crop that was saved as PNG and loaded again the same crop.
    """
    return (picture.clamp(0, 1) * 255).round() / 255


def reduce_long_side(photo: Tensor, limit: int = LONG_SIDE_LIMIT) -> tuple[Tensor, float]:
    """Shrink a photo whose long side exceeds a limit; smaller ones are left alone.

    Released behavior: OpenCV's INTER_LANCZOS4, eight taps whatever the factor, so strong
    reductions alias.

    Args:
        photo: `(H, W, 3)` RGB in [0, 1].
        limit: Longest side allowed, in pixels.

    Returns:
        `(H', W', 3)` and the factor that it was scaled by, at most 1.
    """
    height, width = photo.shape[:2]
    if max(height, width) <= limit:
        return photo, 1.0
    scale = limit / max(height, width)
    result = photo.float()
    for axis, length in enumerate((height, width)):
        taps, weights = _lanczos4(length, max(1, int(length * scale)))
        shape = [-1 if i == axis else 1 for i in range(3)]
        result = torch.stack(
            [
                result.index_select(axis, taps[k].to(result.device))
                * weights[k].view(shape).to(result)
                for k in range(8)
            ]
        ).sum(0)
    return _eight_bit(result).to(photo), scale


def _lanczos4(length: int, new_length: int) -> tuple[Tensor, Tensor]:
    """Source indexes `(8, new_length)`, repeated at the edges, and their weights."""
    centers = (torch.arange(new_length, dtype=torch.float64) + 0.5) * (length / new_length) - 0.5
    taps = centers.floor()[None] + torch.arange(-3, 5)[:, None]  # (8, new_length)
    distance = taps - centers
    weights = torch.sinc(distance) * torch.sinc(distance / 4)
    return taps.long().clamp(0, length - 1), weights / weights.sum(0)


def eye_distance(points: Sequence[Sequence[float]]) -> float:
    """Pixels between the two eyes."""
    (x0, y0), (x1, y1) = points[0][:2], points[1][:2]
    return float(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5)


def cut_crop(photo: Tensor, points: Sequence[Sequence[float]], padding: float = 1.0) -> Tensor:
    """The released way from a photo `(H, W, 3)` and its five points to the crop `(512, 512, 3)`."""
    reduced, scale = reduce_long_side(photo)
    image, _ = align_crop(reduced, [[x * scale, y * scale] for x, y in points], padding=padding)
    return image


def cut_view(photo: Tensor, points: NDArray[np.float64]) -> Tensor:
    """The crop `(512, 512, 3)` of a frame `(H, W, 3)`.

    As `cut_crop`, but only the surroundings of the face are touched, and only a face that is
    much larger than in the crop is reduced first.

    Args:
        photo: RGB in [0, 1], or uint8.
        points: `(5, 2)` pixels.
    """
    matrix = similarity_lmeds(points, FACE_TEMPLATE_PX)
    ends = np.array([[0, 0], [CROP_SIZE, 0], [0, CROP_SIZE], [CROP_SIZE, CROP_SIZE]])
    corners = (ends - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    height, width = photo.shape[:2]
    x0, y0 = (int(v) for v in np.clip(corners.min(0) - 2, 0, [width - 2, height - 2]))
    x1, y1 = (int(v) for v in np.clip(corners.max(0) + 3, [x0 + 2, y0 + 2], [width, height]))
    window, points = photo[y0:y1, x0:x1], points - [x0, y0]
    if window.dtype == torch.uint8:
        window = window.float() / 255
    factor = TEMPLATE_EYE_DISTANCE_PX / eye_distance(points.tolist())
    if factor < _REDUCE_BELOW:
        size = [max(2, round(side * factor)) for side in window.shape[:2]]
        planes = window.permute(2, 0, 1)[None]
        window = interpolate(planes, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
        points = (points + 0.5) * [size[1] / (x1 - x0), size[0] / (y1 - y0)] - 0.5
    return align_crop(window, points)[0]

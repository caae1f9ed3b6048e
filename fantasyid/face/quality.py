"""How good a face is as a reference: sharpness, size, and how much of it is covered."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from .crop import TEMPLATE_EYE_DISTANCE_PX, eye_distance

# The face in the released crop: from the brow to below the mouth, between the cheeks.
FACE_REGION = (slice(176, 432), slice(128, 384))

# Measured on crops of the astronaut (0.062) and of Newton's portrait (0.24), blurred by Gaussians
# of 0 to 8 px of the crop: under the first number (4 px) the eyelids are gone, under the second
# (2 px) they are soft.
BLURRED, SOFT = 0.004, 0.012
# Eyes closer than this fill the crop with enlarged pixels.
SMALL_EYE_DISTANCE_PX = TEMPLATE_EYE_DISTANCE_PX / 3

_LUMA = (0.299, 0.587, 0.114)
_LUMA_BINS, _COLOR_BINS = 4, 6


def sharpness(crop: Tensor) -> float:
    """Variance of the Laplacian over the variance of the picture: 0 for none, about 1 for noise.

    Measured in the face of an aligned crop at half its size, so that neither the photo's size nor
    its contrast nor a bright background counts.

    Args:
        crop: `(512, 512, 3)` RGB in [0, 1].
    """
    rows, columns = FACE_REGION
    gray = (crop[rows, columns].float() @ crop.new_tensor(_LUMA).float())[None, None]
    gray = avg_pool2d(gray, 2)
    kernel = gray.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    edges = conv2d(gray, kernel)
    return float(edges.var() / (gray.var() + 1e-4))


def color_histogram(crop: Tensor) -> Tensor:
    """How often each brightness and hue occurs in the face of an aligned crop, `(4 * 6 * 6,)`.

    Args:
        crop: `(512, 512, 3)` RGB in [0, 1].

    Returns:
        Shares that sum to one.
    """
    rows, columns = FACE_REGION
    face = avg_pool2d(crop[rows, columns].float().permute(2, 0, 1)[None], 8)[0]  # (3, 32, 32)
    total = face.sum(0).clamp(min=1e-3)
    luma = (face * face.new_tensor(_LUMA)[:, None, None]).sum(0)
    # Relative to the median: a darker exposure is no cover.
    luma = luma / luma.median().clamp(min=1e-3)
    bins = (luma * _LUMA_BINS / 1.6).long().clamp(0, _LUMA_BINS - 1)
    for share in (face[0] / total, face[2] / total):
        # Skin lies around a third of each color: the bins cover 0.1 to 0.6.
        step = ((share - 0.1) / 0.5 * _COLOR_BINS).long().clamp(0, _COLOR_BINS - 1)
        bins = bins * _COLOR_BINS + step
    counts = torch.bincount(bins.flatten(), minlength=_LUMA_BINS * _COLOR_BINS**2)
    return counts.float() / counts.sum()


def covered(crop: Tensor, usual: Tensor) -> float:
    """How much of a face has colors that it does not usually have, 0 to 1: a stand-in for
    occlusion, which sees masks, microphones and dark glasses but no bare hands.

    Args:
        crop: `(512, 512, 3)` RGB in [0, 1].
        usual: The `color_histogram` of the same person, averaged over some crops.
    """
    return float(1 - torch.minimum(color_histogram(crop), usual).sum())


def describe_quality(crop: Tensor, points: Sequence[Sequence[float]], padding: float = 1.0) -> str:
    """What to know before using a crop, in sentences; "" when there is nothing to warn of.

    Args:
        crop: `(512, 512, 3)`, aligned.
        points: `(5, 2)` in pixels of the photo.
        padding: As in `crop.align_crop`.
    """
    words = ""
    eyes = eye_distance(points)
    if eyes < SMALL_EYE_DISTANCE_PX / padding:
        factor = TEMPLATE_EYE_DISTANCE_PX / padding / eyes
        words += (
            f" Small: the eyes are {eyes:.0f} px apart, the crop is enlarged {factor:.1f} times; "
            "use a larger photo."
        )
    measured = sharpness(crop)
    if measured < BLURRED:
        words += f" Blurred (sharpness {measured:.4f}): details of the face are lost."
    elif measured < SOFT:
        words += f" Soft (sharpness {measured:.3f}): a sharper photo would show more likeness."
    return words

"""DECA's coarse encoder: a photo becomes FLAME coefficients.

The backbone is torchvision's ResNet-50 by names, strides and numbers, but not by import: the
host's memory manager wants its own layers (`operations=`), and torchvision's class fixes the widths
that smaller encoders change. In DECA's checkpoint all names have `E_flame.` before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from ..shapes import ShapeReader, Shapes

IMAGE_SIZE = 224
EXPANSION = 4
STAGES = ("layer1", "layer2", "layer3", "layer4")
CODE_SIZES = (100, 50, 50, 6, 3, 27)
CODE_SIZE = sum(CODE_SIZES)


class DecaCode(NamedTuple):
    """The encoder's output by meaning."""

    shape: Tensor  # `(B, 100)` FLAME shape coefficients
    texture: Tensor  # `(B, 50)`; not used by FantasyID
    expression: Tensor  # `(B, 50)` FLAME expression coefficients
    pose: Tensor  # `(B, 6)` axis-angles in radians: of the whole head, then of the jaw
    camera: Tensor  # `(B, 3)` scale and shift of an orthographic camera; not used by FantasyID
    light: Tensor  # `(B, 27)` spherical harmonics, nine per color; not used by FantasyID


def split_code(code: Tensor) -> DecaCode:
    """Name the parts of a `(B, 236)` code."""
    if code.ndim != 2 or code.shape[1] != CODE_SIZE:
        raise ValueError(
            f"split_code: expected the shape (B, {CODE_SIZE}), got {tuple(code.shape)}"
        )
    return DecaCode(*code.split(CODE_SIZES, dim=-1))


@dataclass(frozen=True)
class DecaConfig:
    """Sizes of the encoder."""

    stem_width: int  # channels after the first convolution (64)
    # Inner channels of the four stages (64, 128, 256, 512); outputs are four times as wide.
    widths: tuple[int, ...]
    blocks: tuple[int, ...]  # bottlenecks per stage (3, 4, 6, 3)
    hidden: int  # inner width of the head (1024)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> DecaConfig:
        """Read the sizes from the names and shapes of `E_flame`.

        Raises:
            ValueError: A tensor is missing or has a shape that does not fit.
        """
        read = ShapeReader(shapes, "DECA's E_flame")
        stages = [read.below(f"encoder.{stage}.") for stage in STAGES]
        widths = tuple(stage.size("0.conv1.weight", None, None, 1, 1) for stage in stages)
        hidden = read.size("layers.0.weight", None, EXPANSION * widths[-1])
        read.axes("layers.2.weight", CODE_SIZE, hidden)
        blocks = tuple(stage.count("{}.conv1.weight") for stage in stages)
        return cls(read.size("encoder.conv1.weight", None, 3, 7, 7), widths, blocks, hidden)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut; the stride sits on the 3x3 one."""

    def __init__(
        self, in_width: int, width: int, stride: int, first: bool, conv: Any, norm: Any
    ) -> None:
        super().__init__()
        out_width = EXPANSION * width
        self.conv1, self.bn1 = conv(in_width, width, 1), norm(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride=stride, padding=1), norm(width)
        self.conv3, self.bn3 = conv(width, out_width, 1), norm(out_width)
        self.downsample = None
        if first:
            shortcut = conv(in_width, out_width, 1, stride=stride)
            self.downsample = nn.Sequential(shortcut, norm(out_width))

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 4 * width, H / stride, W / stride)`."""
        hidden = relu(self.bn1(self.conv1(features)))
        hidden = relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(hidden))
        return relu(hidden + (features if self.downsample is None else self.downsample(features)))


class ResNet(nn.Module):
    """The convolutions of ResNet-50, of any widths and depths."""

    def __init__(
        self, config: DecaConfig, *, operations: ModuleType | Any = nn, **made: Any
    ) -> None:
        super().__init__()
        conv = partial(operations.Conv2d, bias=False, **made)
        norm = partial(operations.BatchNorm2d, **made)
        width = config.stem_width
        self.conv1, self.bn1 = conv(3, width, 7, stride=2, padding=3), norm(width)
        for stage, inner, count in zip(STAGES, config.widths, config.blocks, strict=True):
            stride = 1 if stage == STAGES[0] else 2
            layer = nn.Sequential(Bottleneck(width, inner, stride, True, conv, norm))
            width = EXPANSION * inner
            layer.extend(Bottleneck(width, inner, 1, False, conv, norm) for _ in range(count - 1))
            self.add_module(stage, layer)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, C)`: the mean of the last features over the image."""
        return self.stages(images)[-1].mean(dim=(2, 3))

    def stages(self, images: Tensor) -> list[Tensor]:
        """The output of each of the four stages, `(B, C, H / 4, W / 4)` and so on."""
        features = relu(self.bn1(self.conv1(images)))  # (B, C, H / 2, W / 2)
        outputs = [max_pool2d(features, kernel_size=3, stride=2, padding=1)]
        for stage in STAGES:
            outputs.append(self.get_submodule(stage)(outputs[-1]))
        return outputs[1:]


class DecaEncoder(nn.Module):
    """ResNet features and a two-layer head that puts out the code.

    Source: paper section 3.3; Feng et al., "Learning an animatable detailed 3D face model from
    in-the-wild images" (2021); docs/released-model.md, section 8.
    """

    def __init__(
        self,
        config: DecaConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        operations: ModuleType | Any = nn,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.encoder = ResNet(config, operations=operations, **made)
        self.layers = nn.Sequential(
            operations.Linear(EXPANSION * config.widths[-1], config.hidden, **made),
            nn.ReLU(),
            operations.Linear(config.hidden, CODE_SIZE, **made),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Encode photos.

        Args:
            images: `(B, 3, 224, 224)` RGB in [0, 1], neither centered nor scaled.

        Returns:
            `(B, 236)` code; see `split_code`.
        """
        if images.ndim != 4 or images.shape[1:] != (3, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                f"DecaEncoder: expected the shape (B, 3, {IMAGE_SIZE}, {IMAGE_SIZE}), "
                f"got {tuple(images.shape)}"
            )
        return self.layers(self.encoder(images))


def deca_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The encoder's tensors in a DECA checkpoint.

    Args:
        checkpoint: What `torch.load(..., weights_only=True)` gives for `deca_model.tar`.

    Returns:
        The tensors of `E_flame` by their released names, which are ours too. Counters of training
        steps (`num_batches_tracked`) have no effect and are replaced by zero.

    Raises:
        ValueError: There is no `E_flame`, or it holds something else than tensors.
    """
    if "E_flame" not in checkpoint:
        keys = ", ".join(sorted(map(str, checkpoint))[:8]) or "no keys"
        raise ValueError(f"DECA checkpoint: this file has the keys {keys}; expected E_flame")
    state = checkpoint["E_flame"]
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError("DECA checkpoint: E_flame is no dict of tensors")
    return {
        name: torch.zeros((), dtype=torch.int64) if name.endswith("num_batches_tracked") else tensor
        for name, tensor in state.items()
    }

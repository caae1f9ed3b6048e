"""DECA's coarse encoder: a photo becomes FLAME coefficients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

IMAGE_SIZE = 224
EXPANSION = 4
STAGES = ("layer1", "layer2", "layer3", "layer4")
CODE_SIZES = {"shape": 100, "texture": 50, "expression": 50, "pose": 6, "camera": 3, "light": 27}
CODE_SIZE = sum(CODE_SIZES.values())
RESAMPLE_BITS = 22


@dataclass(frozen=True, eq=False)
class DecaCode:
    """The encoder's output by meaning.

    Attributes:
        shape: `(B, 100)` FLAME shape coefficients.
        texture: `(B, 50)`; not used by FantasyID.
        expression: `(B, 50)` FLAME expression coefficients.
        pose: `(B, 6)` axis-angles in radians: of the whole head, then of the jaw.
        camera: `(B, 3)` scale and shift of an orthographic camera; not used by FantasyID.
        light: `(B, 27)` spherical harmonics, nine per colour; not used by FantasyID.
    """

    shape: Tensor
    texture: Tensor
    expression: Tensor
    pose: Tensor
    camera: Tensor
    light: Tensor


def split_code(code: Tensor) -> DecaCode:
    """Name the parts of a `(B, 236)` code."""
    if code.ndim != 2 or code.shape[1] != CODE_SIZE:
        raise ValueError(
            f"split_code: expected the shape (B, {CODE_SIZE}), got {tuple(code.shape)}"
        )
    return DecaCode(*code.split(list(CODE_SIZES.values()), dim=-1))


@dataclass(frozen=True)
class DecaConfig:
    """Sizes of the encoder.

    Attributes:
        stem_width: Channels after the first convolution (64).
        widths: Inner channels of the four stages (64, 128, 256, 512); outputs are four times as
            wide.
        blocks: Bottlenecks per stage (3, 4, 6, 3).
        hidden: Inner width of the head (1024).
    """

    stem_width: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    hidden: int

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Sequence[int]]) -> DecaConfig:
        """Read the sizes from the names and shapes of `E_flame`.

        Raises:
            ValueError: A tensor is missing or has a shape that does not fit.
        """

        def shape(name: str) -> tuple[int, ...]:
            if name not in shapes:
                raise ValueError(f"DECA: {name} is missing: this is no E_flame of DECA")
            return tuple(shapes[name])

        blocks = []
        for stage in STAGES:
            count = 0
            while f"encoder.{stage}.{count}.conv1.weight" in shapes:
                count += 1
            blocks.append(count)
        config = cls(
            stem_width=shape("encoder.conv1.weight")[0],
            widths=tuple(shape(f"encoder.{stage}.0.conv1.weight")[0] for stage in STAGES),
            blocks=tuple(blocks),
            hidden=shape("layers.0.weight")[0],
        )
        features = EXPANSION * config.widths[-1]
        for name, expected in (
            ("encoder.conv1.weight", (config.stem_width, 3, 7, 7)),
            ("layers.0.weight", (config.hidden, features)),
            ("layers.2.weight", (CODE_SIZE, config.hidden)),
        ):
            if shape(name) != expected:
                raise ValueError(f"DECA: {name} has the shape {shape(name)}, expected {expected}")
        return config


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut; the stride sits on the 3x3 one."""

    def __init__(
        self,
        in_width: int,
        width: int,
        stride: int,
        *,
        shortcut: bool,
        operations: ModuleType | Any = nn,
        **made: Any,
    ) -> None:
        super().__init__()
        conv, norm = operations.Conv2d, operations.BatchNorm2d
        out_width = EXPANSION * width
        self.conv1 = conv(in_width, width, 1, bias=False, **made)
        self.bn1 = norm(width, **made)
        self.conv2 = conv(width, width, 3, stride=stride, padding=1, bias=False, **made)
        self.bn2 = norm(width, **made)
        self.conv3 = conv(width, out_width, 1, bias=False, **made)
        self.bn3 = norm(out_width, **made)
        self.downsample = None
        if shortcut:
            self.downsample = nn.Sequential(
                conv(in_width, out_width, 1, stride=stride, bias=False, **made),
                norm(out_width, **made),
            )

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 4 * width, H / stride, W / stride)`."""
        hidden = relu(self.bn1(self.conv1(features)))
        hidden = relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(hidden))
        return relu(hidden + (features if self.downsample is None else self.downsample(features)))


class ResNet(nn.Module):
    """The convolutions of ResNet-50, with the stride where torchvision has it."""

    def __init__(
        self, config: DecaConfig, *, operations: ModuleType | Any = nn, **made: Any
    ) -> None:
        super().__init__()
        self.conv1 = operations.Conv2d(
            3, config.stem_width, 7, stride=2, padding=3, bias=False, **made
        )
        self.bn1 = operations.BatchNorm2d(config.stem_width, **made)
        in_width = config.stem_width
        for number, (stage, width, count) in enumerate(
            zip(STAGES, config.widths, config.blocks, strict=True)
        ):
            layer = nn.Sequential()
            for block in range(count):
                stride = 2 if number > 0 and block == 0 else 1
                layer.append(
                    Bottleneck(
                        in_width, width, stride,
                        shortcut=block == 0, operations=operations, **made,
                    )
                )  # fmt: skip
                in_width = EXPANSION * width
            self.add_module(stage, layer)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, C)`: the mean of the last features over the image."""
        return self.stages(images)[-1].mean(dim=(2, 3))

    def stages(self, images: Tensor) -> list[Tensor]:
        """The output of each of the four stages, `(B, C, H / 4, W / 4)` and so on."""
        features = relu(self.bn1(self.conv1(images)))  # (B, C, H / 2, W / 2)
        features = max_pool2d(features, kernel_size=3, stride=2, padding=1)
        outputs = []
        for stage in STAGES:
            features = self.get_submodule(stage)(features)
            outputs.append(features)
        return outputs


class DecaEncoder(nn.Module):
    """ResNet features and a two-layer head that puts out the code."""

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
        self.config = config
        self.encoder = ResNet(config, operations=operations, **made)
        self.layers = nn.Sequential(
            operations.Linear(EXPANSION * config.widths[-1], config.hidden, **made),
            nn.ReLU(),
            operations.Linear(config.hidden, CODE_SIZE, **made),
        )
        self.eval()

    def train(self, mode: bool = True) -> DecaEncoder:  # noqa: ARG002
        """Stay in evaluation: the stored statistics of the batch norms are part of the model."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Encode photos.

        Args:
            images: `(B, 3, 224, 224)` RGB in [0, 1], neither centred nor scaled.

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
        The tensors of `E_flame` by their released names. Counters of training steps
        (`num_batches_tracked`) have no effect and are replaced by zero.

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


def preprocess(photo: Tensor) -> Tensor:
    """Stretch a photo to the encoder's size, exactly as Pillow's bilinear resize does.

    Width first, then height, rounded between: the order of every Pillow before 13. Newer ones
    take the height of tall photos first, which differs by one level here and there.

    Args:
        photo: `(B, H, W, 3)` RGB in [0, 1].

    Returns:
        `(B, 3, 224, 224)` float32 in [0, 1], in steps of 1 / 255, on the photo's device.

    Raises:
        ValueError: The shape is not that of a photo.

    Released behaviour: the whole photo is stretched, whatever its proportions, although DECA was
    trained on squares around a face.
    """
    if photo.ndim != 4 or photo.shape[-1] != 3 or 0 in photo.shape:
        raise ValueError(f"preprocess: expected the shape (B, H, W, 3), got {tuple(photo.shape)}")
    # Sums of 8-bit values times 22-bit weights are whole numbers, exact in float64 on the CPU.
    levels = (photo.detach().cpu().double().clamp(0, 1) * 255).round()
    rows, columns = (_resample_weights(size, IMAGE_SIZE) for size in photo.shape[1:3])
    levels = _to_levels(torch.einsum("bhwc,xw->bhxc", levels, columns))
    levels = _to_levels(torch.einsum("bhxc,yh->bcyx", levels, rows))
    return (levels / 255).float().to(photo.device)


def _to_levels(weighted: Tensor) -> Tensor:
    """Fixed-point sums back to whole levels 0..255, halves upwards."""
    return ((weighted + 2 ** (RESAMPLE_BITS - 1)) / 2**RESAMPLE_BITS).floor().clamp(0, 255)


def _resample_weights(size: int, new_size: int) -> Tensor:
    """`(new_size, size)` triangle filters, as wide as an output pixel, in 22-bit fixed point."""
    scale = size / new_size
    width = max(scale, 1.0)
    weights = torch.zeros(new_size, size, dtype=torch.float64)
    for pixel in range(new_size):
        centre = (pixel + 0.5) * scale
        first = max(math.floor(centre - width + 0.5), 0)
        last = min(math.floor(centre + width + 0.5), size)
        offset = torch.arange(first, last, dtype=torch.float64) - centre + 0.5
        # Factors instead of quotients, summed from left to right: Pillow's last bit hangs on it.
        row = (1 - (offset * (1 / width)).abs()).clamp(min=0)
        weights[pixel, first:last] = row * (1 / row.cumsum(0)[-1])
    return (weights * 2**RESAMPLE_BITS + 0.5).floor()

"""Trains the miniature's VAE: the host's own class, narrow, on frames and then on films.

The host reads the file with this class and encodes and decodes in its own chunks, over which the
group norms run; so it is trained through them. Run `python -m miniature vae`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from comfy.ldm.cogvideo import vae as host
from torch import Tensor, nn

from fantasyid.comfyui.miniature import VAE_SIZES

LATENTS = 16
SCALE = 1.15258426  # what the host multiplies latents of a narrow transformer with
LATENT_NOISE = 0.06  # standard deviation that the decoder is trained to bear


def build() -> host.AutoencoderKLCogVideoX:
    """The class with its first weights: two-dimensional at the start, the last tap of three."""
    model = host.AutoencoderKLCogVideoX(**VAE_SIZES)
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            nn.init.constant_(weight, 0.0 if name.endswith("bias") else 1.0)
        elif weight.ndim == 5 and weight.shape[2] == 3:
            nn.init.zeros_(weight)
            nn.init.normal_(weight[:, :, 2], 0.0, (3 / weight[0].numel()) ** 0.5)
        else:
            nn.init.normal_(weight, 0.0, weight[0].numel() ** -0.5)
        if ".conv2.conv.weight" in name:
            weight.data *= 0.1
        if "conv_y.conv.weight" in name or "conv_b.conv.weight" in name:
            weight.data *= 0.3
        if name.endswith("conv_y.conv.bias"):
            nn.init.ones_(weight)
    return model


def _normed(self: host.SpatialNorm3D, f: Tensor, zq: Tensor, conv_cache: object = None):
    """The host's norm with its 1x1 convolutions before the upsampling: the same numbers."""
    del conv_cache  # 1x1 convolutions remember nothing
    parts = []
    convolutions: list[Any] = [self.conv_y.conv, self.conv_b.conv]
    for conv in convolutions:
        part = torch.einsum("oc,bcthw->bothw", conv.weight[:, :, 0, 0, 0], zq)
        part = part + conv.bias[:, None, None, None]
        same = part.shape[-3:] == f.shape[-3:]
        parts.append(part if same else host._interpolate_zq(part, f.shape[-3:]))
    return self.norm_layer(f) * parts[0] + parts[1], {}


def _convolved(self: host.CausalConv3d, x: Tensor, conv_cache: Tensor | None = None):
    """The host's convolution, in two dimensions where there is one frame: the same numbers."""
    taps = self.time_kernel_size
    if taps > 1 and conv_cache is None and x.shape[2] == 1:
        weight = self.conv.weight.sum(2)
        out = F.conv2d(x[:, :, 0], weight, self.conv.bias, padding=self.conv.padding[1:])
        return out[:, :, None], None
    if taps > 1:
        before = [x[:, :, :1]] * (taps - 1) if conv_cache is None else [conv_cache]
        x = torch.cat([*before, x], 2)
    return self.conv(x), x[:, :, -taps + 1 :] if taps > 1 else None


@contextmanager
def cheap_to_train() -> Iterator[None]:
    """Exact rewrites of two of the host's forward passes, for this process and this while."""
    before = host.SpatialNorm3D.forward, host.CausalConv3d.forward
    host.SpatialNorm3D.forward, host.CausalConv3d.forward = _normed, _convolved
    try:
        yield
    finally:
        host.SpatialNorm3D.forward, host.CausalConv3d.forward = before


def psnr(model: Any, pixels: Tensor) -> float:
    """Of the round trip of (B, 3, F, H, W) in [-1, 1], in dB of the range."""
    with torch.no_grad():
        error = (model.decode(model.encode(pixels)).clamp(-1, 1) - pixels) / 2
    return -10 * math.log10(float(error.square().mean()))


def as_input(frames: Tensor) -> Tensor:
    """Films (B, F, H, W, 3) uint8 as (B, 3, F, H, W) in [-1, 1]."""
    return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


class Training:
    """Frames first, then films, then films with the decoder alone, so that latents made with the
    encoder stay true; each for some minutes of the process's CPU time.

    Args:
        films: (N, F, H, W, 3) uint8.
        photos: (M, H, W, 3) uint8, the size of the films.
        held_out: (B, F, H, W, 3) uint8: progress is measured on them.
        out: Where the weights are kept every minute; found there, training goes on.
        minutes: Of each part.
    """

    PHASES = ("frames", "films", "decoder")
    RATES = (4e-3, 1.2e-3, 1.2e-3)

    def __init__(
        self,
        films: Tensor,
        photos: Tensor,
        held_out: Tensor,
        out: Path,
        minutes: tuple[float, float, float],
        seed: int = 0,
    ) -> None:
        self.films, self.photos, self.out, self.minutes = films, photos, out, minutes
        self.held, self.source = as_input(held_out), torch.Generator().manual_seed(seed)
        self.model = build()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), 3e-3, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.state = {"step": 0, "phase": 0, "spent": 0.0}
        if out.exists():
            saved = torch.load(out, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.state = saved["state"]

    def run(self) -> nn.Module:
        """Train to the end of the last part."""
        began, noted = time.process_time(), 0.0
        with cheap_to_train():
            while self.state["phase"] < len(self.PHASES):
                now = time.process_time()
                self.state["spent"] += now - began
                began, noted = now, noted + now - began
                share = self.state["spent"] / (60 * self.minutes[self.state["phase"]])
                if share > 1:
                    self.state["phase"], self.state["spent"] = self.state["phase"] + 1, 0.0
                    continue
                if noted > 60:
                    self.note()
                    noted = 0.0
                self.step(share)
            self.note()
        return self.model

    def note(self) -> None:
        """Say how far it is, and keep it."""
        frames, films = psnr(self.model, self.held[:24, :, 8:9]), psnr(self.model, self.held[:8])
        words = ", ".join(f"{name} {value:.0f}" for name, value in self.state.items())
        print(f"{words}: PSNR of frames {frames:.2f}, of films {films:.2f} dB", flush=True)
        kept = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**kept, "state": self.state}, self.out)

    def batch(self) -> Tensor:
        """Eight pictures, or one film."""
        which = torch.randint(len(self.films), (6,), generator=self.source)
        if self.state["phase"]:
            return as_input(self.films[which[:1]])
        frame = torch.randint(self.films.shape[1], (6,), generator=self.source)
        others = self.photos[torch.randint(len(self.photos), (2,), generator=self.source)]
        return as_input(torch.cat([self.films[which, frame], others])[:, None])

    def step(self, share: float) -> None:
        """One step at a share of its part: warm-up, then a cosine."""
        rate = self.RATES[self.state["phase"]] * min(1.0, (self.state["spent"] + 0.5) / 8)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (0.04 + 0.96 * 0.5 * (1 + math.cos(math.pi * share)))
        pixels = self.batch()
        with torch.set_grad_enabled(self.state["phase"] < 2):
            latent = self.model.encode(pixels)
        noisy = latent + LATENT_NOISE * torch.randn(latent.shape, generator=self.source)
        error = self.model.decode(noisy) - pixels
        loss = error.abs().mean() + 4 * error.square().mean()
        loss = loss + 2e-3 * (latent.square() - 1).clamp(min=0).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.state["step"] += 1

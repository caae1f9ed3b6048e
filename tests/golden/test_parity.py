"""Against timm and diffusers as they run today, at small widths and at five video sizes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from denoiser import build_model, velocity

from fantasyid.cogvideox.positions import rotary_table
from fantasyid.face.eva_clip import EvaVisionTransformer
from fantasyid.face.eva_keys import EVA_KEYS, EvaConfig

SIZES = [(480, 720), (720, 480), (512, 512), (256, 384), (768, 1360)]
HEADS, TEXT_WIDTH = 3, 64

# The warnings are those of the two libraries and of the host.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

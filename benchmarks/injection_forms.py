"""The injector as released, and folded, and what a step of each form costs on paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

DIM, CONTEXT_DIM, LAYERS, TIME_DIM, TEXT_DIM = 3072, 2048, 42, 512, 4096
TEXT_TOKENS, FACE_TOKENS, VERTEX_TOKENS = 226, 36, 79
IDENTITY_TOKENS = FACE_TOKENS + VERTEX_TOKENS
ROWS, COLUMNS, FULL_FRAMES = 30, 45, 13  # 720x480, 49 frames
FULL_TOKENS = ROWS * COLUMNS * FULL_FRAMES
FOLDED_WIDTH = CONTEXT_DIM // 128 * IDENTITY_TOKENS
BARE, OURS, RELEASED, FOLDED = "bare host", "ours", "released form", "folded form"


def block_operations(tokens: int) -> int:
    """Multiplications and additions of one block of the base model.

    Args:
        tokens: Video tokens; the text tokens come on top.
    """
    joint = tokens + TEXT_TOKENS
    projections = 2 * joint * 4 * DIM**2  # q, k, v, out
    feed_forward = 2 * joint * 2 * DIM * 4 * DIM
    attention = 2 * 2 * joint**2 * DIM
    modulation = 2 * 2 * TIME_DIM * 6 * DIM
    return projections + feed_forward + attention + modulation


def injection_operations(form: str, tokens: int) -> int:
    """Multiplications and additions of one injection.

    Args:
        form: `OURS`, `RELEASED` or `FOLDED`.
        tokens: Video tokens.
    """
    if form == FOLDED:
        return 2 * tokens * DIM * FOLDED_WIDTH * 2
    projections = 2 * tokens * DIM * CONTEXT_DIM * 2
    attention = 2 * tokens * IDENTITY_TOKENS * CONTEXT_DIM * 2
    keys_values = 2 * IDENTITY_TOKENS * CONTEXT_DIM * 2 * CONTEXT_DIM
    return projections + attention + (keys_values if form == RELEASED else 0)


class ReleasedForm(nn.Module):
    """The injector as released: keys and values at every step, attention weights materialised.

    Source: docs/released-model.md, section 3.
    """

    def __init__(self, keys_values: Any, injector: Any, tokens: Tensor) -> None:
        super().__init__()
        self.keys_values, self.injector, self.tokens = keys_values, injector, tokens

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The residual `(B, N, dim)` of `hidden_states` `(B, N, dim)`."""
        query = self.injector.to_q(self.injector.norm_hidden(hidden_states))
        keys, values = self.keys_values(self.tokens)
        heads = self.injector.num_heads
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, keys, values))
        scale = q.shape[-1] ** -0.25
        weights = (q * scale) @ (k * scale).transpose(-2, -1)  # (B, heads, N, K)
        weights = weights.float().softmax(dim=-1).to(weights.dtype)
        return self.injector.to_out((weights @ v).transpose(1, 2).flatten(-2))


class FoldedForm(nn.Module):
    """The injector with `W_q` folded into fixed keys, and `W_o` into fixed values, per head."""

    def __init__(self, injector: Any, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.norm_hidden, self.heads = injector.norm_hidden, injector.num_heads
        k, v = (x[0].float().unflatten(-1, (self.heads, -1)) for x in (keys, values))
        w_q = injector.to_q.weight.float().unflatten(0, (self.heads, -1))
        w_o = injector.to_out.weight.float().unflatten(1, (self.heads, -1))
        to_logits = torch.einsum("hdc,khd->hkc", w_q, k).flatten(0, 1) * k.shape[-1] ** -0.5
        to_out = torch.einsum("chd,khd->chk", w_o, v).flatten(1)
        self.to_logits = to_logits.to(keys.dtype)  # (heads * K, dim)
        self.to_out = to_out.to(keys.dtype)  # (dim, heads * K)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The residual `(B, N, dim)` of `hidden_states` `(B, N, dim)`."""
        logits = linear(self.norm_hidden(hidden_states), self.to_logits)  # (B, N, heads * K)
        weights = logits.unflatten(-1, (self.heads, -1)).softmax(dim=-1)
        return linear(weights.flatten(-2), self.to_out)


def operations_rows(tokens: int) -> list[list[str]]:
    """GFLOP per block of each way to take a step, counted."""
    base = block_operations(tokens)
    rows = [[f"{tokens} video tokens", "GFLOP per block", "step / bare"]]
    rows.append([BARE, f"{base / 1e9:.1f}", "1"])
    for form in (OURS, RELEASED, FOLDED):
        more = injection_operations(form, tokens)
        rows.append([form, f"+ {more / 1e9:.1f}", f"{1 + more / base:.4f}"])
    return rows


def weights_rows() -> list[list[str]]:
    """Megabytes that each way keeps from step to step; matrices alone, whole model."""
    bytes_per_value = 2
    base = LAYERS * (12 * DIM**2 + 2 * TIME_DIM * 6 * DIM)
    queries_out = LAYERS * 2 * DIM * CONTEXT_DIM
    more = {
        OURS: queries_out + LAYERS * 2 * IDENTITY_TOKENS * CONTEXT_DIM,
        RELEASED: queries_out + LAYERS * 2 * CONTEXT_DIM**2,
        FOLDED: LAYERS * 2 * DIM * FOLDED_WIDTH,
    }
    rows = [[f"{LAYERS} blocks, bfloat16", "MB", "/ bare"]]
    rows.append([BARE, f"{bytes_per_value * base / 1e6:.0f}", "1"])
    for form, values in more.items():
        size = bytes_per_value * values / 1e6
        rows.append([form, f"+ {size:.0f}", f"{1 + values / base:.3f}"])
    return rows


def layers_that_fit(free: int, dtype: torch.dtype) -> int:
    """Blocks whose weights, injectors of all forms and activations fit, at most the whole model.

    Args:
        free: Bytes of memory.
        dtype: Of weights and activations.
    """
    block = 12 * DIM**2 + 2 * TIME_DIM * 6 * DIM
    injector = 2 * DIM * CONTEXT_DIM + 2 * CONTEXT_DIM**2 + 2 * DIM * FOLDED_WIDTH
    activations = 3 * dtype.itemsize * 2**30
    return max(1, min(LAYERS, (free - activations) // (dtype.itemsize * (block + injector))))

"""The layers that more than one stage uses."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Multi-head attention over already projected tokens.

    Args:
        query: `(B, N, C)`, `C = num_heads * head_dim`.
        key: `(B, K, C)`.
        value: `(B, K, C)`.
        num_heads: Heads that share `C`.

    Returns:
        `(B, N, C)`, in the dtype of `query`.
    """
    q, k, v = (rearrange(x, "b n (h d) -> b h n d", h=num_heads) for x in (query, key, value))
    return rearrange(scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")

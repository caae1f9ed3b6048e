"""Which file, which weights and which photo something was made with, as a hash.

Hashing gigabytes at every load would cost more than loading them. A fine-tuned, merged or
quantised model differs everywhere, so a fixed sample of every tensor tells it apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

# From the beginning, the middle and the end of every tensor: three places to read in a file.
SAMPLE = 256
SHOWN_DIGITS = 16
CHUNK_BYTES = 1024**2


def sha256_of_file(path: Path, report: Callable[[int], object] = lambda _: None) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Args:
        report: Called with the number of bytes of each piece that was read; may raise to stop.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
            report(len(piece))
    return digest.hexdigest()


def weights_fingerprint(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, the shapes and a fixed sample of the values of weights.

    The values count as float32, so the same numbers give the same hash from any file and in any
    type that holds them exactly. Weights that were rounded to fp8 or bf16 are other weights: they
    give other tokens, and another hash.

    Args:
        weights: Names to tensors; the order does not matter.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach()
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        flat = tensor.reshape(-1)
        last = max(flat.numel() - SAMPLE, 0)
        for start in (0, last // 2, last):
            values = flat[start : start + SAMPLE].float().cpu().numpy()
            digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()


def photo_hash(photo: Tensor) -> str:
    """SHA-256 over the size and the pixels of a photo, in steps of 8 bits.

    Args:
        photo: `(1, H, W, 3)` RGB in [0, 1].

    Returns:
        64 hexadecimal digits.
    """
    pixels = (photo.float().cpu() * 255).round_().clamp_(0, 255).byte().contiguous().numpy()
    digest = hashlib.sha256(f"{tuple(pixels.shape)}\n".encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def shown(value: str) -> str:
    """As much of a hash as a person compares."""
    return value[:SHOWN_DIGITS] or "unknown"

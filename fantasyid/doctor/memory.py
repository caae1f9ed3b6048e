"""How much memory sampling takes, from the shapes of the transformer.

The host has an estimate of its own (a constant times the latent's area), made to decide what to
unload. It does not know the model's width, so it is off by a factor for small models, and it
leaves out scores of unfused attention. This one counts the tensors that live at the two fullest
moments of one block, as the host's CogVideoX block is written; the largest wins.
Checked against the measured peak in tests/comfyui/test_doctor_memory.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..cogvideox.config import HEAD_DIM

FLOAT_BYTES = 4
PIXELS_PER_CELL, FRAMES_PER_LATENT = 8, 4
LATENT_CHANNELS = 16
TEXT_TOKENS = 226
# The host tries these numbers of queries at a time until four score tensors fit.
QUERY_CHUNKS = (4096, 2048, 1024, 512, 256)
LAST_RESORT_QUERIES = 512


@dataclass(frozen=True, slots=True)
class VideoSize:
    """A video in pixels and frames."""

    width: int
    height: int
    length: int

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns."""
        frames = (self.length - 1) // FRAMES_PER_LATENT + 1
        return frames, self.height // PIXELS_PER_CELL, self.width // PIXELS_PER_CELL

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.width}x{self.height}, {self.length} frames"


@dataclass(frozen=True, slots=True)
class Run:
    """How a run computes, and the sizes of its transformer that decide about memory."""

    dim: int  # width
    text_dim: int  # width of the text embeddings
    batch: int = 2  # 2 where both branches of cfg go through the model at once
    compute_bytes: int = 2  # bytes per number: 2 for bf16 and fp16, 4 for fp32
    # Whether weights are kept in another type than that, and cast layer by layer.
    casts: bool = False
    # Whether attention never holds its scores (torch's on a GPU, xformers, sage, flash).
    fused: bool = True
    # What the host believes free, which bounds unfused scores; None is plenty.
    free_bytes: int | None = None
    text_tokens: int = TEXT_TOKENS  # length of the prompt's embedding


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes that a run needs, by what needs them."""

    weights: int  # transformer and injectors, where all of them fit
    block: int  # activations of the fullest moment of a block
    around: int  # latents of the sampler, text embeddings, rotary tables
    identity: int = 0  # keys and values of the identities

    @property
    def activations(self) -> int:
        """What must be free beside the weights."""
        return self.block + self.around + self.identity

    @property
    def total(self) -> int:
        """With all weights in place."""
        return self.weights + self.activations


def block_bytes(size: VideoSize, run: Run) -> int:
    """Bytes that live at the fullest moment of a transformer block.

    Counted in J, one joint tensor (batch, text and video tokens, width), and V, its video part.
    The block's locals live until it returns, and its caller holds the block's input.

    * At the GELU of the feed-forward: the block's input and the state after attention (2 J), the
      input of attention (1), q, k, v (3), rotated q and k (2 V), the result of attention (1), the
      second norm and its joined copy (2), four times the width before and after the GELU (8):
      17 J + 2 V. A moment later four J are gone and the output has come (5 of the 8), with the
      last layer's weight where weights are cast: in small videos that is more.
    * In unfused attention: input, norm and joined copy (3 J), q, k, v and their copies by head
      (6 J), rotated q and k (2 V), and the scores before and after softmax.
    """
    frames, rows, columns = size.latent_shape
    video = frames * math.ceil(rows / 2) * math.ceil(columns / 2)
    tokens = run.text_tokens + video
    row_bytes = run.batch * run.dim * run.compute_bytes
    joint, rotated = tokens * row_bytes, 2 * video * row_bytes
    cast = 4 * run.dim**2 * run.compute_bytes if run.casts else 0
    feed_forward = 9 * joint + rotated + max(8 * joint, 5 * joint + cast)
    if run.fused:
        return feed_forward
    attention = 9 * joint + rotated + 2 * _scores_bytes(tokens, run)
    return max(feed_forward, attention)


def _scores_bytes(tokens: int, run: Run) -> int:
    """One tensor of attention scores, in chunks of queries as the host chooses them."""
    per_query = run.batch * (run.dim // HEAD_DIM) * tokens * run.compute_bytes
    if run.free_bytes is None:
        return per_query * min(tokens, QUERY_CHUNKS[0])
    for queries in QUERY_CHUNKS:
        if 4 * per_query * queries <= run.free_bytes:
            return per_query * min(tokens, queries)
    # Then keys are cut too, into pieces of the square root of their number.
    return per_query * min(tokens, LAST_RESORT_QUERIES) // max(math.isqrt(tokens), 1)


def around_bytes(size: VideoSize, run: Run) -> int:
    """Bytes beside the blocks: small for the released model, not for a tiny one.

    Nine latents belong to the sampler (noise, state, estimate, the last estimate, what the host
    sums up) and eight more to each item of a batch (noise and face channels, their joined copy,
    the prediction); the text embeddings exist as conditioning and joined for the batch.
    """
    frames, rows, columns = size.latent_shape
    latent = LATENT_CHANNELS * frames * rows * columns * FLOAT_BYTES
    text = 2 * run.batch * run.text_tokens * run.text_dim * run.compute_bytes
    rotary = 2 * frames * (rows // 2) * (columns // 2) * HEAD_DIM * FLOAT_BYTES
    return (9 + 8 * run.batch) * latent + text + rotary


def identity_bytes(injectors: int, tokens: int, context_dim: int, compute_bytes: int) -> int:
    """Keys and values of one identity for every injector."""
    return 2 * injectors * tokens * context_dim * compute_bytes


def estimate(size: VideoSize, run: Run, weights: int, identity: int = 0) -> Estimate:
    """What sampling a video takes.

    Args:
        weights: Bytes of the transformer and of the injectors.
        identity: `identity_bytes` of all identities.
    """
    return Estimate(weights, block_bytes(size, run), around_bytes(size, run), identity)

"""Teaches the miniature's text encoder its language: what moves, on which ground, in what light.

A T5 that has read the web knows what a sentence means at each of its tokens; a random one does not,
and a base of few steps does not find it out. So this one learns it first, from the sentences of the
training: every output, of a word or of a padding, tells the motion, the background and the light.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from transformers import T5EncoderModel

from fantasyid.training.encoders import TEXT_TOKENS

from .parts import text_encoder
from .studio import _rate
from .world.dataset import TRAIN, plan
from .world.films import BACKGROUNDS, LIGHTS, MOTIONS

PADDING, END = 0, 1
SHORT, LOOKED_AT = 48, 40
MEANINGS = (MOTIONS, BACKGROUNDS, LIGHTS)


def _sentences(tokenizer: Any) -> tuple[list[list[int]], Tensor]:
    """All sentences of the training as tokens, and their meanings (N, 3)."""
    films = [film for number in range(TRAIN.people) for film in plan(TRAIN, number)[0]]
    tokens = [tokenizer(film.prompt).input_ids[:-1] for film in films]
    told = [(film.motion, film.background, film.light) for film in films]
    known = [list(kinds) for kinds in MEANINGS]
    return tokens, torch.tensor(
        [[k.index(v) for k, v in zip(known, row, strict=True)] for row in told]
    )


def _strewn(tokens: list[int], words: int, source: Generator) -> list[int]:
    """A sentence with some words strewn in, of which nobody has told it anything."""
    many = int(torch.randint(9, (), generator=source)) - 3
    for _ in range(many):
        place = int(torch.randint(len(tokens) + 1, (), generator=source))
        word = int(torch.randint(2, words, (), generator=source))
        tokens = [*tokens[:place], word, *tokens[place:]]
    return tokens


def train_text_encoder(tokenizer: Any, steps: int, seed: int = 0) -> T5EncoderModel:
    """Train it; its relative bias stays zero, so that all paddings stay equal."""
    model = text_encoder(seed).train()
    for name, weight in model.named_parameters():
        weight.requires_grad_("relative_attention_bias" not in name)
    source = Generator().manual_seed(seed)
    sentences, meanings = _sentences(tokenizer)
    readers = nn.ModuleList(nn.Linear(model.config.d_model, len(kinds)) for kinds in MEANINGS)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([*learned, *readers.parameters()], 3e-3, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps, 8e-3)
        which = torch.randint(len(sentences), (32,), generator=source)
        # Few paddings are cheap; that there are many it must know too.
        length = SHORT if step % 8 else TEXT_TOKENS
        batch = torch.full((len(which), length), PADDING)
        for row, number in zip(batch, which.tolist(), strict=True):
            tokens = [*_strewn(sentences[number], len(tokenizer), source), END]
            row[: len(tokens)] = torch.tensor(tokens)
        found = model(batch)[0][:, :LOOKED_AT]  # behind them are paddings alone, all equal
        losses = [
            F.cross_entropy(reader(found).movedim(-1, 1), wanted[:, None].expand(-1, LOOKED_AT))
            for reader, wanted in zip(readers, meanings[which].T, strict=True)
        ]
        optimizer.zero_grad(set_to_none=True)
        sum(losses).backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            told = ", ".join(f"{loss.item():.3f}" for loss in losses)
            print(f"text step {step + 1}: motion, background, light {told}", flush=True)
    return model.eval()

"""Single nodes, timed: what `startup.py` runs in the host's interpreter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

MEGAPIXELS_12 = (3464, 3464)
CLIP_SIDE, CLIP_FRAMES = 480, 33


def timed(nodes: Mapping[str, Any]) -> dict[str, float]:
    """Processor seconds of each stage; the names are the table's."""
    from skimage import data

    seconds: dict[str, float] = {}

    def run(node_id: str, name: str = "", /, **inputs: Any) -> tuple[Any, ...]:
        began = time.process_time()
        try:
            result = nodes[node_id].PREPARE_CLASS_CLONE(None).execute(**inputs)
        finally:
            if name:
                seconds[name] = seconds.get(name, 0.0) + time.process_time() - began
        return tuple(getattr(result, "result", None) or ())

    portrait = torch.from_numpy(data.astronaut()).float()[None] / 255
    large = _resized(portrait, MEGAPIXELS_12)
    cup = _resized(torch.from_numpy(data.coffee()).float()[None] / 255, MEGAPIXELS_12)
    aligning = {"detector": "cascade", "choose": "largest", "index": 0, "no_face": "stop"}
    run("FantasyIDAlignFace", "align, 12 megapixels", image=large, **aligning)
    with suppress(ValueError):  # there is no face: that is what takes long
        run("FantasyIDAlignFace", "align, 12 megapixels, no face", image=cup, **aligning)
    adapter = run(
        "FantasyIDAdapterLoader", adapter="tiny-fantasyid", mesh_transforms="tiny_transform.pkl"
    )[0]
    encoder = run("FantasyIDFaceEncoderLoader", face_encoder="tiny_EVA02_CLIP_L_336_psz14_s6B.pt")[
        0
    ]
    deca = run("FantasyIDDecaLoader", deca="tiny_deca_model.tar", flame="tiny_generic_model.pkl")[0]
    for name, image in (("first identity", portrait), ("second identity", portrait.flip(2))):
        face = run("FantasyIDAlignFace", name, image=image, **aligning)[0]
        tokens = run("FantasyIDFaceTokens", name, face_encoder=encoder, adapter=adapter, face=face)[
            0
        ]
        head = run("FantasyIDFaceVertices", name, deca=deca, face=face, mode="as released")[0]
        run("FantasyIDFuse", name, adapter=adapter, face_tokens=tokens, geometry=head)
    measuring = {"recogniser": "none: FM only", "detector": "cascade", "choose": "largest"}
    clip = torch.cat([
        _resized(portrait[:, n : 460 + n, n : 460 + n], (CLIP_SIDE, CLIP_SIDE))
        for n in range(CLIP_FRAMES)
    ])  # fmt: skip
    run("FantasyIDMetrics", "metrics, 33 frames", clip=clip, filename_prefix="", **measuring)
    run("FantasyIDDoctor", "doctor", width=720, height=480, length=49, check_hashes=False)
    return seconds


def _resized(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    moved = torch.nn.functional.interpolate(picture.movedim(-1, 1), size, mode="bilinear")
    return moved.movedim(1, -1)

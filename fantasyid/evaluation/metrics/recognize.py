"""Who tells faces apart: ArcFace networks in ONNX files that people bring, and their licences.

Nothing here downloads anything. AuraFace and antelopev2 both call their file `glintr100.onnx`,
so the licence is told by the file's content, not by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ...face.crop import fit_similarity, warp_affine
from ...face.insight import ARCFACE_SIZE, ARCFACE_TEMPLATE_PX
from .similarity import Embedding, unit

AUTO, NONE = "auto", "none: FM only"
AURAFACE = "AuraFace-v1 (Apache-2.0: commercial use allowed)"
ANTELOPEV2 = "antelopev2 (InsightFace: non-commercial research only)"
BUFFALO_L = "buffalo_l (InsightFace: non-commercial research only)"
CHOICES = (AUTO, AURAFACE, ANTELOPEV2, BUFFALO_L, NONE)
UNKNOWN = "licence unknown: check where the file came from"

# Pack folder and file of each choice; auto takes the first that is there.
_FILES = {
    AURAFACE: ("auraface", "glintr100.onnx"),
    ANTELOPEV2: ("antelopev2", "glintr100.onnx"),
    BUFFALO_L: ("buffalo_l", "w600k_r50.onnx"),
}
_SOURCES = {
    AURAFACE: "get glintr100.onnx from huggingface.co/fal/AuraFace-v1",
    ANTELOPEV2: "get antelopev2.zip from the releases page of deepinsight/insightface",
    BUFFALO_L: "get buffalo_l.zip from the releases page of deepinsight/insightface",
}
_BY_SHA256 = {
    "a7933ea5330113b01c9b60351d8f4c33003f145d8470ac5f0e52ee2effe25c60": AURAFACE,
    "4ab1d6435d639628a6f3e5008dd4f929edf4c4124b1a7169e1048f9fef534cdf": ANTELOPEV2,
    "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43": BUFFALO_L,
}


@dataclass(frozen=True, slots=True)
class Recogniser:
    """A face recogniser that is ready.

    Attributes:
        words: Its name and its licence, for people.
        embed: A photo `(H, W, 3)` RGB in [0, 1] and five points `(5, 2)` in its pixels to a
            unit vector.
    """

    words: str
    embed: Callable[[Tensor, ArrayLike], Embedding]


def find_recogniser(choice: str, roots: Sequence[Path]) -> Path:
    """The ONNX file of a choice.

    Args:
        choice: One of `CHOICES` but `NONE`.
        roots: Folders in which packs may lie, themselves or in a folder `models` in them.

    Raises:
        ValueError: There is no such choice.
        FileNotFoundError: It is not there; the message says where it was looked for and where
            to get it.
    """
    if choice != AUTO and choice not in _FILES:
        raise ValueError(
            f'the face recogniser is "{choice}", expected one of: {", ".join(CHOICES)}'
        )
    wanted = list(_FILES) if choice == AUTO else [choice]
    looked: list[str] = []
    for name in wanted:
        pack, file = _FILES[name]
        for root in roots:
            for folder in (root / "models" / pack, root / pack):
                # antelopev2.zip unpacks to antelopev2/antelopev2.
                for path in (folder / file, folder / pack / file):
                    if path.is_file():
                        return path
                looked.append(str(folder / file))
    source = _SOURCES[AURAFACE if choice == AUTO else choice]
    place = roots[0] / "models" / _FILES[AURAFACE if choice == AUTO else choice][0] if roots else ""
    raise FileNotFoundError(
        f"no face recogniser file; looked for: {', '.join(looked)}. To have RS and IFS, {source} "
        f"and put it into {place}"
    )


def licence_of(path: Path) -> str:
    """Name and licence of a recogniser file, by its SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return _BY_SHA256.get(digest.hexdigest(), f"{path.name} ({UNKNOWN})")


def open_recogniser(path: Path) -> Recogniser:
    """An ArcFace network on the CPU: 112x112 RGB, `(x - 127.5) / 127.5`, five-point alignment.

    Raises:
        ImportError: onnxruntime is not installed.
        ValueError: The file is no ONNX model, or one with other inputs.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f"the face recogniser needs onnxruntime ({error}): pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its own classes, for whatever is in a file
        raise ValueError(f"{path} cannot be read as an ONNX model: {error}") from error
    inputs = session.get_inputs()
    sides = inputs[0].shape[2:] if len(inputs) == 1 and len(inputs[0].shape) == 4 else None
    if sides is None or any(isinstance(s, int) and s != ARCFACE_SIZE for s in sides):
        raise ValueError(
            f"{path} is no face recogniser: its inputs are {[list(i.shape) for i in inputs]}, "
            f"expected one of (n, 3, {ARCFACE_SIZE}, {ARCFACE_SIZE})"
        )

    def embed(photo: Tensor, points: ArrayLike) -> Embedding:
        (vector, *_) = session.run(None, {inputs[0].name: arcface_input(photo, points)})
        return unit(np.asarray(vector))

    return Recogniser(licence_of(path), embed)


def arcface_input(photo: Tensor, points: ArrayLike) -> Any:
    """The network's input `(1, 3, 112, 112)` float32 in [-1, 1] for one face.

    Args:
        photo: `(H, W, 3)` RGB in [0, 1].
        points: `(5, 2)` pixels of the photo (`face.points.POINT_NAMES`).

    Raises:
        ValueError: The points coincide.
    """
    matrix = fit_similarity(np.asarray(points, np.float64), ARCFACE_TEMPLATE_PX)
    if matrix is None:
        raise ValueError("the facial points coincide: the face cannot be aligned")
    face = warp_affine(photo, matrix, ARCFACE_SIZE, (0.0, 0.0, 0.0))
    scaled = (face.float().clamp(0, 1) * 255).round() / 127.5 - 1
    return scaled.permute(2, 0, 1)[None].numpy()

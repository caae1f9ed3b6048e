"""Who tells faces apart: ArcFace networks in ONNX files that people bring, and their licenses.

Nothing here downloads anything. AuraFace and antelopev2 both call their file `glintr100.onnx`,
so the license is told by the file's content, not by its name.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .crop import FACE_TEMPLATE_PX, fit_similarity, warp_affine
from .insight import find_insightface_pack

Embedding = NDArray[np.float64]

# Where ArcFace wants the five points in its 112 px picture.
ARCFACE_TEMPLATE_PX = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
ARCFACE_SIZE = 112
# Cosine above which two pictures show one person, also across views.
SAME_PERSON = 0.3

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
class Recognizer:
    """A face recognizer that is ready."""

    path: Path  # of its file
    words: str  # its name and its license, for people
    # A photo `(H, W, 3)` RGB in [0, 1] and five points `(5, 2)` in its pixels to a unit vector.
    embed: Callable[[Tensor, ArrayLike], Embedding]


def find_recognizer(choice: str, roots: Sequence[Path]) -> Path:
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
    for name in wanted:
        pack, file = _FILES[name]
        for root in roots:
            for folder in (root / "models" / pack, root / pack):
                # antelopev2.zip unpacks to antelopev2/antelopev2.
                for path in (folder / file, folder / pack / file):
                    if path.is_file():
                        return path
    source = _SOURCES[AURAFACE if choice == AUTO else choice]
    place = roots[0] / "models" / _FILES[AURAFACE if choice == AUTO else choice][0] if roots else ""
    raise FileNotFoundError(
        f"no face recogniser file; looked for: "
        f"{', '.join('/'.join(_FILES[name]) for name in wanted)}, below "
        f"{', '.join(map(str, roots)) or 'no folder'} and in their folders models. To have RS and "
        f"IFS, {source} and put it into {place}"
    )


def license_of(path: Path) -> str:
    """Name and license of a recognizer file, by its SHA-256."""
    return _BY_SHA256.get(hashlib.sha256(path.read_bytes()).hexdigest(), f"{path.name} ({UNKNOWN})")


def open_recognizer(path: Path) -> Recognizer:
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
    single = len(inputs) == len(session.get_outputs()) == 1  # a detector has more outputs
    sides = inputs[0].shape[2:] if single and len(inputs[0].shape) == 4 else None
    if sides is None or any(isinstance(s, int) and s != ARCFACE_SIZE for s in sides):
        raise ValueError(
            f"{path} is no face recogniser: its inputs are {[list(i.shape) for i in inputs]}, "
            f"expected one of (n, 3, {ARCFACE_SIZE}, {ARCFACE_SIZE})"
        )

    def embed(photo: Tensor, points: ArrayLike) -> Embedding:
        (vector, *_) = session.run(None, {inputs[0].name: arcface_input(photo, points)})
        return unit(np.asarray(vector))

    return Recognizer(path, license_of(path), embed)


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


def open_pack_recognizer(folders: Sequence[Path]) -> Callable[[Tensor, Tensor], bool]:
    """Whether two aligned crops show one person, by the recognizer of an insightface pack.

    Args:
        folders: See `insight.find_insightface_pack`.

    Returns:
        A function of two crops `(512, 512, 3)` RGB in [0, 1].

    Raises:
        ImportError: onnxruntime is not installed.
        FileNotFoundError: There is no model pack, or none with a recognition model.
    """
    pack = find_insightface_pack(folders)
    for path in sorted(pack.glob("*.onnx")):
        with contextlib.suppress(ValueError):  # a detector, landmarks...
            embed = open_recognizer(path).embed
            return lambda one, other: (
                float(embed(one, FACE_TEMPLATE_PX) @ embed(other, FACE_TEMPLATE_PX)) > SAME_PERSON
            )
    raise FileNotFoundError(f"none of the *.onnx files in {pack} is a recognition model")


def unit(vector: ArrayLike) -> Embedding:
    """A vector of length 1.

    Raises:
        ValueError: It has no length, or a value that is not a number.
    """
    flat = np.asarray(vector, np.float64).ravel()
    length = float(np.linalg.norm(flat))
    if not (np.isfinite(length) and length > 0):
        raise ValueError("the face recognizer gave an embedding without a direction")
    return flat / length

"""Released files: which key is which weight, both ways, and whether all are there.

On disk every file keeps its released names. Each key is part of the base transformer, a live part
of the adapter, or dead with a reason. A base that was converted for the host carries the host's
names. Source: docs/released-model.md, sections 0, 2 and 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from ..cogvideox.keys import BASE_KEYS
from ..face.abstractor import ABSTRACTOR_KEYS
from ..fusion.transformer import FUSION_KEYS
from ..injection.layers import INJECTION_KEYS
from ..shapes import Shapes

T = TypeVar("T")

PARTS = {
    "base": BASE_KEYS,
    "abstractor": ABSTRACTOR_KEYS,
    "fusion": FUSION_KEYS,
    "injection": INJECTION_KEYS,
}

# Released keys that never influence the output, with the reason. Each was replaced by noise in
# the reference implementation: the output changed by exactly 0.0.
DEAD_RULES = (
    (r"^face_abstractor\.latents$", "the query tokens of an unused resampler"),
    (r"^face_abstractor\.id_embedding_mapping\.", "reads the ArcFace vector, whose tokens are cut"),
    (r"^face_abstractor\.mapping_[0-3]\.", "reads EVA levels 0 to 3, whose result is overwritten"),
    (r"^face_abstractor\.layers\.[0-7]\.", "belongs to EVA levels 0 to 3, overwritten by level 4"),
    (r"^face_abstractor\.layers\.8\.(?!0\.pos_emb$)", "overwritten by layer 9, its position "
     "table excepted"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReleasedKeys:
    """A checkpoint's keys, sorted by the part they belong to.

    Each part maps our name to the released name; `dead` maps a released name to its reason.
    """

    base: dict[str, str] = field(default_factory=dict)
    abstractor: dict[str, str] = field(default_factory=dict)
    fusion: dict[str, str] = field(default_factory=dict)
    injection: dict[str, str] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def has_adapter(self) -> bool:
        """Whether the three live parts of the adapter are all there."""
        return bool(self.abstractor and self.fusion and self.injection)


def sort_released_keys(keys: Iterable[str]) -> ReleasedKeys:
    """Sort the keys of a transformer folder or an adapter file by part."""
    found = ReleasedKeys()
    for key in keys:
        for part, key_map in PARTS.items():
            names, name = getattr(found, part), key_map.to_ours(key)
            if name is not None and name not in names:
                names[name] = key
                break
        else:
            reason = next((why for pattern, why in DEAD_RULES if re.match(pattern, key)), None)
            if reason is None:
                found.unknown.append(key)
            else:
                found.dead[key] = reason
    return found


def to_released(part: str, state_dict: Mapping[str, T]) -> dict[str, T]:
    """A state dict of one of our modules under the released names, as it is saved.

    Args:
        part: A key of `PARTS`: "base" gives diffusers' names, the others those of the adapter.
        state_dict: Our names to anything.

    Raises:
        ValueError: A name is not of that part.
    """
    released = {PARTS[part].to_released(name): value for name, value in state_dict.items()}
    if None in released:
        strange = [name for name in state_dict if PARTS[part].to_released(name) is None]
        raise ValueError(f"{', '.join(strange[:5])}: no such weights in the released {part}")
    return {name: value for name, value in released.items() if name is not None}


def check_state_dict(expected: Shapes, found: Shapes, source: str, looks_like: str = "") -> None:
    """Compare names and shapes before anything is loaded.

    Raises:
        ValueError: Names `source` and at most five missing, unexpected and misshapen keys each.
    """
    missing = [k for k in expected if k not in found]
    unexpected = [k for k in found if k not in expected]
    wrong = [
        f"{k} is {tuple(found[k])}, expected {tuple(expected[k])}"
        for k in expected
        if k in found and tuple(found[k]) != tuple(expected[k])
    ]
    problems = [
        f"{len(names)} {word}: {'; '.join(names[:5])}{'; ...' if len(names) > 5 else ''}"
        for word, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", wrong))
        if names
    ]
    if problems:
        words = f" ({looks_like})" if looks_like else ""
        raise ValueError(f"{source} does not fit. {'. '.join(problems)}.{words}")


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


def shapes_of(state_dict: Mapping[str, _Shaped]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in state_dict.items()}

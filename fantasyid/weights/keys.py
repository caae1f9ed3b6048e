"""Released files: which key goes where, and whether all are there.

On disk every file keeps its released names. The rules below are the whole of the mapping: each
released key is part of the base transformer, a live part of the adapter, or dead with a reason.
A base that was converted for the host carries the host's names, which stay as they are.
Source: docs/released-model.md, sections 0, 2 and 6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

Shapes = Mapping[str, Sequence[int]]

# Diffusers names of the base transformer -> names of the host's CogVideoX class; the last two are
# the host's names themselves.
BASE_RULES = (
    (r"^(patch_embed\.(?:proj|text_proj)\.(?:weight|bias))$", r"\1"),
    (r"^(patch_embed\.pos_embedding)$", r"\1"),
    (r"^time_embedding\.linear_(.*)$", r"time_embedding_linear_\1"),
    (r"^ofs_embedding\.linear_(.*)$", r"ofs_embedding_linear_\1"),
    (r"^transformer_blocks\.(\d+)\.attn1\.to_([qkv])\.(.*)$", r"blocks.\1.\2.\3"),
    (r"^transformer_blocks\.(\d+)\.attn1\.to_out\.0\.(.*)$", r"blocks.\1.attn_out.\2"),
    (r"^transformer_blocks\.(\d+)\.attn1\.(norm_[qk]\..*)$", r"blocks.\1.\2"),
    (r"^transformer_blocks\.(\d+)\.ff\.net\.0\.proj\.(.*)$", r"blocks.\1.ff_proj.\2"),
    (r"^transformer_blocks\.(\d+)\.ff\.net\.2\.(.*)$", r"blocks.\1.ff_out.\2"),
    (r"^transformer_blocks\.(\d+)\.(norm[12]\.(?:linear|norm)\..*)$", r"blocks.\1.\2"),
    (r"^((?:norm_final|norm_out\.linear|norm_out\.norm|proj_out)\.(?:weight|bias))$", r"\1"),
    (r"^((?:time|ofs)_embedding_linear_[12]\.(?:weight|bias))$", r"\1"),
    (
        r"^(blocks\.\d+\.(?:[qkv]|attn_out|norm_[qk]|ff_proj|ff_out|norm[12]\.(?:linear|norm))"
        r"\.(?:weight|bias))$",
        r"\1",
    ),
)

ABSTRACTOR_RULES = (
    (r"^face_abstractor\.mapping_4\.(.*)$", r"mapping.\1"),
    (r"^face_abstractor\.layers\.8\.0\.pos_emb$", r"earlier_position"),
    (r"^face_abstractor\.layers\.9\.0\.pos_emb$", r"position"),
    (r"^face_abstractor\.layers\.9\.0\.((?:net|readout)\..*)$", r"\1"),
    (r"^face_abstractor\.layers\.9\.1\.(.*)$", r"feed_forward.\1"),
    (r"^face_abstractor\.(proj_out)$", r"\1"),
)

_BLOCK = r"^vertex_spiral_net\.transformer\.layers\.(\d+)"
_REDUCER = r"^vertex_reducer\.conv_block(\d+)"
FUSION_RULES = (
    (r"^vertex_spiral_net\.vtx_query$", r"vertex_queries"),
    (r"^vertex_spiral_net\.hw_down\.(.*)$", r"face_projection.\1"),
    (_BLOCK + r"\.0\.norm\.(.*)$", r"blocks.\1.norm1.\2"),
    (_BLOCK + r"\.0\.fn\.to_qkv\.(.*)$", r"blocks.\1.to_qkv.\2"),
    (_BLOCK + r"\.0\.fn\.to_out\.0\.(.*)$", r"blocks.\1.to_out.\2"),
    (_BLOCK + r"\.1\.norm\.(.*)$", r"blocks.\1.norm2.\2"),
    (_BLOCK + r"\.1\.fn\.net\.0\.(.*)$", r"blocks.\1.fc1.\2"),
    (_BLOCK + r"\.1\.fn\.net\.3\.(.*)$", r"blocks.\1.fc2.\2"),
    (
        r"^vertex_spiral_net\.vtx_upsampler\.de_layers\.([01])\.conv\.layer\.(.*)$",
        r"upsample.\1.\2",
    ),
    (r"^vertex_spiral_net\.vtx_upsampler\.de_layers\.2\.layer\.(.*)$", r"upsample.2.\1"),
    (r"^vertex_spiral_net\.vtx_descriptor_head\.0\.(.*)$", r"descriptor.\1"),
    (_REDUCER + r"\.conv_(in|out)\.conv1d\.(.*)$", r"reducer.<\1>.conv_\2.\3"),
    (_REDUCER + r"\.conv_(in|out)\.group_norm\.(.*)$", r"reducer.<\1>.norm_\2.\3"),
    (_REDUCER + r"\.residual_conv\.(.*)$", r"reducer.<\1>.residual.\2"),
)

INJECTION_RULES = (
    (r"^layer_attention\.(\d+)\.norm1\.(.*)$", r"injectors.\1.norm_tokens.\2"),
    (r"^layer_attention\.(\d+)\.norm2\.(.*)$", r"injectors.\1.norm_hidden.\2"),
    (r"^layer_attention\.(\d+)\.(to_q|to_kv|to_out)\.weight$", r"injectors.\1.\2.weight"),
)

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


def _rename(key: str, rules: Iterable[tuple[str, str]]) -> str | None:
    for pattern, replacement in rules:
        name, count = re.subn(pattern, replacement, key)
        if count:
            # The reducer's blocks are numbered from 1 in the file, from 0 here.
            return re.sub(r"<(\d+)>", lambda m: str(int(m[1]) - 1), name)
    return None


def sort_released_keys(keys: Iterable[str]) -> ReleasedKeys:
    """Sort the keys of a transformer folder or an adapter file by part."""
    found = ReleasedKeys()
    parts = (
        (found.base, BASE_RULES),
        (found.abstractor, ABSTRACTOR_RULES),
        (found.fusion, FUSION_RULES),
        (found.injection, INJECTION_RULES),
    )
    for key in keys:
        for part, rules in parts:
            name = _rename(key, rules)
            if name is not None and name not in part:
                part[name] = key
                break
        else:
            reason = next((why for pattern, why in DEAD_RULES if re.match(pattern, key)), None)
            if reason is None:
                found.unknown.append(key)
            else:
                found.dead[key] = reason
    return found


def check_state_dict(expected: Shapes, found: Shapes, source: str) -> None:
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
        raise ValueError(f"{source} does not fit. {'. '.join(problems)}.")


def shapes_of(state_dict: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state dict."""
    return {k: tuple(v.shape) for k, v in state_dict.items()}

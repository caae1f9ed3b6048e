"""Names of the base transformer's weights: diffusers' on disk, the host's in its CogVideoX class.

Source: docs/released-model.md, section 6; host facts of its CogVideoX class.
"""

from __future__ import annotations

from ..key_map import KeyMap

_LEAVES = ("weight", "bias")
# Modules with a weight and a bias: diffusers' name and the host's.
OUTER_MODULES = {
    "patch_embed.proj": "patch_embed.proj",
    "patch_embed.text_proj": "patch_embed.text_proj",
    "time_embedding.linear_1": "time_embedding_linear_1",
    "time_embedding.linear_2": "time_embedding_linear_2",
    "norm_final": "norm_final",
    "norm_out.linear": "norm_out.linear",
    "norm_out.norm": "norm_out.norm",
    "proj_out": "proj_out",
}
BLOCK_MODULES = {
    "attn1.to_q": "q",
    "attn1.to_k": "k",
    "attn1.to_v": "v",
    "attn1.to_out.0": "attn_out",
    "attn1.norm_q": "norm_q",
    "attn1.norm_k": "norm_k",
    "ff.net.0.proj": "ff_proj",
    "ff.net.2": "ff_out",
    "norm1.linear": "norm1.linear",
    "norm1.norm": "norm1.norm",
    "norm2.linear": "norm2.linear",
    "norm2.norm": "norm2.norm",
}
# Of CogVideoX 1.5, which is recognized and refused.
_OTHER_MODULES = {f"ofs_embedding.linear_{n}": f"ofs_embedding_linear_{n}" for n in (1, 2)}
_MODULES = OUTER_MODULES | _OTHER_MODULES | {
    f"transformer_blocks.{{i}}.{released}": f"blocks.{{i}}.{host}"
    for released, host in BLOCK_MODULES.items()
}  # fmt: skip
_DIFFUSERS = [(f"{a}.{leaf}", f"{b}.{leaf}") for a, b in _MODULES.items() for leaf in _LEAVES]
_TABLES = [("patch_embed.pos_embedding", "patch_embed.pos_embedding")]
# A base that was converted for the host carries the host's names already.
BASE_KEYS = KeyMap([*_DIFFUSERS, *_TABLES, *((host, host) for _, host in _DIFFUSERS)])

"""What a file of weights is, told by its tensors' names and shapes, whatever its name says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# A key that only such a file has (or the start of one), its kind ("" for what is no use here),
# and words for it. First match wins.
LOOKALIKES = (
    ("local_facial_extractor.", "", "ConsisID, a different identity model on CogVideoX"),
    ("decoder.mid_block.resnets.0.norm1.conv_y.conv.weight", "vae", "the CogVideoX VAE"),
    ("decoder.mid_block.resnets.0.norm1.norm_layer.weight", "vae", "the CogVideoX VAE"),
    ("decoder.mid.block_1.norm1.weight", "", "an image VAE"),
    ("encoder.block.0.layer.0.SelfAttention.q.weight", "t5", "a T5 text encoder"),
    ("visual.blocks.0.attn.q_proj.weight", "eva", "an EVA02-CLIP checkpoint"),
    ("blocks.0.attn.inner_attn_ln.weight", "eva", "an EVA02-CLIP vision tower"),
    ("visual.", "", "a CLIP checkpoint, but not EVA02-CLIP"),
    ("vision_model.", "", "a Hugging Face CLIP vision model"),
    ("E_flame", "deca", "the DECA checkpoint"),
    ("encoder.layer1.0.conv1.weight", "deca", "the encoder of a DECA checkpoint"),
    ("shapedirs", "flame", "a FLAME model"),
    ("down_transform", "mesh tables", "the mesh transforms"),
    ("coarse_index", "mesh tables", "the mesh tables"),
    ("kps_8", "face detector", "the YuNet face detector"),
    ("model.diffusion_model.", "", "a whole Stable Diffusion style checkpoint"),
)
ADAPTER_PARTS = ("face_abstractor.", "vertex_spiral_net.", "vertex_reducer.", "layer_attention.")
# Keys of a video transformer of the CogVideoX family: diffusers' names, ComfyUI's names.
FAMILY = {
    "transformer_blocks.0.attn1.to_q.weight": "",
    "blocks.0.attn_out.weight": " in ComfyUI's own names",
}
PATCHES = "patch_embed.proj.weight"
BODIES = {6890: "an SMPL body model", 10475: "an SMPL-X body model"}


def in_print(text: object, most: int = 80) -> str:
    """What a file or a server says, fit for a line of ours: cut, and without control characters."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text)[: most + 1])
    return shown if len(shown) <= most else shown[:most] + "..."


def describe_keys(keys: Iterable[str] | Mapping[str, Any]) -> str:
    """What a file looks like, in words that end a sentence.

    Args:
        keys: Names, or a mapping from names to tensors, arrays or shapes; with shapes, members of
            one family are told apart.
    """
    kind, words = recognize(keys)
    if kind or words:
        return f"it looks like {words}"
    return "its first keys are " + (", ".join([str(key) for key in keys][:3]) or "none at all")


def recognize(keys: Iterable[str] | Mapping[str, Any]) -> tuple[str, str]:
    """The kind of a file, as in the table of model files, and words for it.

    Args:
        keys: As for `describe_keys`.

    Returns:
        The kind: "transformer" with an adapter, "base" without, "adapter" for one alone; "" for
        what is no use here, with words "" for a stranger.
    """
    shapes = _shapes(keys) if isinstance(keys, Mapping) else {}
    names = [str(key) for key in keys]
    body = BODIES.get(next(iter(shapes.get("v_template", ())), 0))
    if body:
        return "", body
    for start, kind, words in LOOKALIKES:
        if any(name.startswith(start) for name in names):
            return kind, words
    has_adapter = all(any(n.startswith(part) for n in names) for part in ADAPTER_PARTS)
    some_adapter = any(name.startswith(ADAPTER_PARTS) for name in names)
    transformer = _describe_transformer(names, shapes)
    if transformer and some_adapter:
        return "transformer" if has_adapter else "base", f"a FantasyID model on {transformer}"
    if transformer:
        return "base", f"{transformer}, without the FantasyID adapter"
    if some_adapter:
        return "adapter" if has_adapter else "", "the FantasyID adapter, without a transformer"
    return "", ""


def _shapes(entries: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    found = {str(name): getattr(value, "shape", value) for name, value in entries.items()}
    return {
        name: tuple(shape)
        for name, shape in found.items()
        if isinstance(shape, Sequence) and all(isinstance(n, int) for n in shape)
    }


def _describe_transformer(names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Which CogVideoX transformer it is; "" for anything else."""
    style = next((words for key, words in FAMILY.items() if key in names), None)
    if style is None:
        return ""
    patches = shapes.get(PATCHES, ())
    if len(patches) == 2 or any(name.startswith("ofs_embedding") for name in names):
        return f"a CogVideoX 1.5 transformer{style}"
    if not patches:
        return f"a CogVideoX transformer{style}"
    width, channels = patches[:2]
    if width == 1920:
        return f"a CogVideoX-2b transformer (30 heads of 64){style}"
    family = "CogVideoX-5b" if width == 3072 else f"a CogVideoX transformer {width} wide,"
    kinds = {16: "text-to-video", 32: "image-to-video", 48: "inpainting"}
    kind = kinds.get(channels, "of an unknown kind")
    return f"{family} {kind} ({channels} input channels){style}"

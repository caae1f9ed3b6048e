"""Weights under the host's memory manager: read, checked, wrapped in a ModelPatcher.

Every module is built from `comfy.ops.manual_cast`, so its layers keep the dtype of the file and
compute in the dtype of their input, wherever the host has put them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from torch import Tensor, nn

from ..checkpoint import (
    ReleasedKeys,
    check_state_dict,
    describe_keys,
    read_torch_file,
    shapes_of,
    sniff,
    sort_released_keys,
    transformer_folder,
    weight_files,
)
from ..face.abstractor import AbstractorConfig, FaceAbstractor
from ..face.eva_clip import EvaConfig, EvaVisionTransformer, eva_state_dict
from ..fusion import FusionConfig, VertexFusion
from ..injection import InjectionConfig, LayerInjectors
from ..mesh.deca import DecaConfig, DecaEncoder, deca_state_dict
from ..mesh.flame import Flame, FlameConfig, flame_state_dict
from ..mesh.safe_pickle import read_pickle
from ..mesh.topology import MeshTables, mesh_tables
from .cogvideox import correct_positions, require_cogvideox_i2v

# Room for the activations of one identity stage (577 or 5023 tokens, one face), in bytes.
STAGE_ACTIVATIONS = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Adapter:
    """The live parts of a FantasyID checkpoint besides the transformer.

    Attributes:
        abstractor: Patcher of `FaceAbstractor`.
        fusion: Patcher of `VertexFusion`.
        injectors: Patcher of `LayerInjectors`.
        tables: Mesh tables of the vertex branch.
        source: The file or folder, for words.
    """

    abstractor: Any
    fusion: Any
    injectors: Any
    tables: MeshTables
    source: str

    @property
    def injection(self) -> InjectionConfig:
        """Sizes of the injectors."""
        return self.injectors.model.config


@dataclass(frozen=True, slots=True)
class FaceEncoder:
    """Patcher of the EVA02-CLIP tower, and where it came from."""

    patcher: Any
    source: str


@dataclass(frozen=True, slots=True)
class Deca:
    """Patchers of the DECA encoder and of the FLAME layer, and where they came from."""

    encoder: Any
    flame: Any
    source: str


def managed(
    build: Callable[..., nn.Module], state_dict: Mapping[str, Tensor], source: str
) -> comfy.model_patcher.ModelPatcher:
    """Build a module for the host's memory manager and fill it.

    Names and shapes are compared before loading: the host's lazy loader would take any shape.

    Args:
        build: Called with `device`, `dtype` and `operations`.
        state_dict: Weights in the module's own names.
        source: For the error.

    Raises:
        ValueError: A key is missing, unexpected or has another shape.
    """
    expected = build(device="meta", dtype=None, operations=nn).state_dict()
    check_state_dict(shapes_of(expected), shapes_of(state_dict), source)
    dtype = next((v.dtype for v in state_dict.values() if v.is_floating_point()), torch.float32)
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    module = build(device=offload_device, dtype=dtype, operations=comfy.ops.manual_cast).eval()
    comfy.model_management.archive_model_dtypes(module)
    patcher = comfy.model_patcher.CoreModelPatcher(
        module, load_device=load_device, offload_device=offload_device
    )
    module.load_state_dict(dict(state_dict), strict=True, assign=patcher.is_dynamic())
    return patcher


def load_to_device(*patchers: Any) -> torch.device:
    """Let the host load modules for one stage; returns the device to compute on."""
    comfy.model_management.load_models_gpu(list(patchers), memory_required=STAGE_ACTIVATIONS)
    return patchers[0].load_device


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return read_torch_file(path)
    sniff(path)
    return comfy.utils.load_torch_file(str(path))


def _read_released(path: Path) -> dict[str, Tensor]:
    folder = transformer_folder(path)
    files = weight_files(folder) if folder.is_dir() else [folder]
    return {k: v for file in files for k, v in _read_weights(file).items()}


def _pick(state_dict: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {ours: state_dict[released] for ours, released in names.items()}


def _adapter_parts(
    state_dict: Mapping[str, Tensor], keys: ReleasedKeys, tables: MeshTables, source: str
) -> Adapter:
    if not keys.has_adapter:
        raise ValueError(
            f"{source} has no FantasyID adapter (face_abstractor, vertex_spiral_net, "
            f"vertex_reducer, layer_attention): {describe_keys(state_dict)}"
        )
    parts = []
    for names, config_type, module_type in (
        (keys.abstractor, AbstractorConfig, FaceAbstractor),
        (keys.fusion, FusionConfig, VertexFusion),
        (keys.injection, InjectionConfig, LayerInjectors),
    ):
        weights = _pick(state_dict, names)
        try:
            config = config_type.from_shapes(shapes_of(weights))
        except (ValueError, KeyError) as error:
            raise ValueError(f"{source}: {error}") from error

        def build(config: Any = config, module_type: Any = module_type, **where: Any) -> nn.Module:
            return module_type(config, **where)

        parts.append(managed(build, weights, f"{source} ({module_type.__name__})"))
    return Adapter(*parts, tables=tables, source=source)


def load_mesh_tables(path: Path) -> MeshTables:
    """Spirals and pooling of the vertex branch, from the mesh transforms pickle."""
    transforms = read_pickle(path)
    if "down_transform" not in transforms:
        raise ValueError(
            f"{path} is no mesh transforms file: {describe_keys(transforms)}; expected "
            "transform.pkl with down_transform, up_transform, vertices and face"
        )
    return mesh_tables(transforms)


def load_adapter(path: Path, transforms: Path) -> Adapter:
    """The adapter of a released folder or of an adapter file, for a base loaded elsewhere."""
    state_dict = _read_released(path)
    keys = sort_released_keys(state_dict)
    return _adapter_parts(state_dict, keys, load_mesh_tables(transforms), str(path))


def load_base(
    path: str, model_options: dict[str, Any], disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """The transformer of a released checkpoint as a MODEL of the host.

    Also the factory by which the host makes fresh copies (several GPUs, compilation).
    """
    state_dict = _read_released(Path(path))
    keys = sort_released_keys(state_dict)
    return _base(path, _pick(state_dict, keys.base), model_options, disable_dynamic)


def _base(
    path: str, weights: dict[str, Tensor], model_options: dict[str, Any], disable_dynamic: bool
) -> comfy.model_patcher.ModelPatcher:
    model = comfy.sd.load_diffusion_model_state_dict(
        weights, model_options=model_options, disable_dynamic=disable_dynamic
    )
    if model is None:
        raise ValueError(f"ComfyUI does not recognise the transformer in {path}")
    require_cogvideox_i2v(model)
    model.cached_patcher_init = (load_base, (path, model_options))
    return correct_positions(model)


def _check_config(path: Path, keys: ReleasedKeys, state_dict: Mapping[str, Tensor]) -> None:
    """`config.json` must agree with the weights beside it.

    Raises:
        ValueError: A number in the config differs from what the shapes say.
    """
    config_file = transformer_folder(path) / "config.json"
    if not config_file.is_file():
        return
    config = json.loads(config_file.read_text("utf-8"))
    patch = state_dict[keys.base["patch_embed.proj.weight"]].shape
    blocks = {k.split(".")[1] for k in keys.base if k.startswith("blocks.")}
    learned = "patch_embed.pos_embedding" in keys.base
    for name, found in (
        ("num_layers", len(blocks)),
        ("in_channels", patch[1]),
        ("use_learned_positional_embeddings", learned),
    ):
        if name in config and config[name] != found:
            raise ValueError(
                f"{config_file} says {name} = {config[name]}, the weights beside it say {found}: "
                "they belong to different checkpoints"
            )


def load_model(
    path: Path, transforms: Path, model_options: dict[str, Any]
) -> tuple[comfy.model_patcher.ModelPatcher, Adapter]:
    """A released model: the base as a MODEL with corrected positions, and the adapter.

    Raises:
        ValueError: The file is something else (named), is damaged, or does not fit its config.
        FileNotFoundError: A shard is missing.
    """
    state_dict = _read_released(path)
    keys = sort_released_keys(state_dict)
    if "patch_embed.proj.weight" not in keys.base:
        raise ValueError(
            f"{path} has no diffusers-named CogVideoX transformer: {describe_keys(state_dict)}"
        )
    if keys.unknown:
        raise ValueError(
            f"{path} has {len(keys.unknown)} keys that no FantasyID checkpoint has: "
            f"{', '.join(keys.unknown[:5])}; {describe_keys(state_dict)}"
        )
    _check_config(path, keys, state_dict)
    adapter = _adapter_parts(state_dict, keys, load_mesh_tables(transforms), str(path))
    return _base(str(path), _pick(state_dict, keys.base), model_options, False), adapter


def load_face_encoder(path: Path) -> FaceEncoder:
    """EVA02-CLIP from its released `.pt`, as far as the face tokens need it."""
    weights = _in_words(path, eva_state_dict, _read_weights(path))
    config = _in_words(path, EvaConfig.from_shapes, shapes_of(weights))
    return FaceEncoder(
        managed(lambda **w: EvaVisionTransformer(config, **w), weights, str(path)), str(path)
    )


def load_deca(deca: Path, flame: Path) -> Deca:
    """The DECA encoder and the FLAME layer from the files their makers distribute."""
    weights = _in_words(deca, deca_state_dict, _read_weights(deca))
    config = _in_words(deca, DecaConfig.from_shapes, shapes_of(weights))
    encoder = managed(lambda **w: DecaEncoder(config, **w), weights, str(deca))
    head = _in_words(flame, flame_state_dict, read_pickle(flame))
    flame_config = _in_words(flame, FlameConfig.from_shapes, shapes_of(head))

    def build(device: Any, dtype: Any, operations: Any) -> nn.Module:
        del operations  # FLAME has tables, no layers
        return Flame(flame_config, device=device, dtype=dtype)

    layer = managed(build, head, str(flame))
    return Deca(encoder, layer, f"{deca.name} + {flame.name}")


def _in_words(path: Path, read: Callable[[Any], Any], content: Any) -> Any:
    """Call a reader and put the file's name in front of its complaint."""
    try:
        return read(content)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error

"""Weights under the host's memory manager: read, checked, wrapped in a ModelPatcher.

Every module is built from `comfy.ops.manual_cast`, so its layers keep the dtype of the file and
compute in the dtype of their input, wherever the host has put them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..cogvideox.config import check_base
from ..face.eva_clip import EvaConfig, EvaVisionTransformer
from ..geometry.deca import DecaConfig, DecaEncoder
from ..geometry.flame import Flame, FlameConfig
from ..geometry.topology import MeshTables
from ..injection.layers import InjectionConfig
from ..weights.adapter import adapter_parts, injector_parts
from ..weights.fingerprint import weights_fingerprint
from ..weights.header import SUFFIXES
from ..weights.keys import ReleasedKeys, check_state_dict, shapes_of, sort_released_keys
from ..weights.lookalikes import describe_keys
from ..weights.read import read_model
from ..weights.third_party import read_deca, read_eva, read_flame, read_mesh_tables
from .cogvideox import correct_positions, require_cogvideox_i2v

# Room for the activations of one identity stage (577 or 5023 tokens, one face), in bytes.
STAGE_ACTIVATIONS = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Adapter:
    """The live parts of a FantasyID checkpoint besides the transformer.

    Attributes:
        abstractor: Patcher of `FaceAbstractor`.
        fusion: Patcher of `VertexFusion`.
        keys_values: Patcher of `LayerKeysValues`, needed once per identity.
        injectors: Patcher of `LayerInjectors`, needed at every step.
        tables: Mesh tables of the vertex branch.
        source: The file or folder, for words.
        fingerprint: `fingerprint.weights_fingerprint` of the live weights.
    """

    abstractor: Any
    fusion: Any
    keys_values: Any
    injectors: Any
    tables: MeshTables
    source: str
    fingerprint: str = ""

    @property
    def injection(self) -> InjectionConfig:
        """Sizes of the injectors."""
        return self.injectors.model.config


@dataclass(frozen=True, slots=True)
class FaceEncoder:
    """Patcher of the EVA02-CLIP tower, where it came from, and which weights it has."""

    patcher: Any
    source: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Deca:
    """Patchers of the DECA encoder and of the FLAME layer, and where they came from."""

    encoder: Any
    flame: Any
    source: str


def common_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    """The smallest dtype that holds every floating tensor of a file exactly."""
    found = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    widest = max((dtype.itemsize for dtype in found), default=4)
    wide = [dtype for dtype in found if dtype.itemsize == widest]
    return wide[0] if len(wide) == 1 else torch.float32


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
    dtype = common_dtype(state_dict.values())
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


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """By the host, which maps the file, where its name lets the host see what it is."""
    return comfy.utils.load_torch_file(str(path)) if path.suffix in SUFFIXES else load_file(path)


def _read_released(path: Path) -> tuple[dict[str, Tensor], ReleasedKeys]:
    state_dict = read_model(path, _read_safetensors)
    return state_dict, sort_released_keys(state_dict)


def _pick(state_dict: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {ours: state_dict[released] for ours, released in names.items()}


def _adapter(
    state_dict: Mapping[str, Tensor], keys: ReleasedKeys, transforms: Path, source: str
) -> Adapter:
    parts = adapter_parts(keys, shapes_of(state_dict), source)
    tables = read_mesh_tables(transforms)
    patchers = [managed(p.build, _pick(state_dict, p.names), p.source) for p in parts]
    patchers[-1].cached_patcher_init = (load_injectors, (source,))
    live = [*keys.abstractor.values(), *keys.fusion.values(), *keys.injection.values()]
    fingerprint = weights_fingerprint({name: state_dict[name] for name in live})
    return Adapter(*patchers, tables=tables, source=source, fingerprint=fingerprint)


def load_injectors(path: str, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The injectors alone: how the host makes the copy for another GPU."""
    del disable_dynamic  # a small model; the host's choice for it stands
    state_dict, keys = _read_released(Path(path))
    part = injector_parts(keys, shapes_of(state_dict), path)[-1]
    return managed(part.build, _pick(state_dict, part.names), part.source)


def load_adapter(path: Path, transforms: Path) -> Adapter:
    """The adapter of a released folder or of an adapter file, for a base loaded elsewhere."""
    state_dict, keys = _read_released(path)
    return _adapter(state_dict, keys, transforms, str(path))


def load_base(
    path: str, model_options: dict[str, Any], disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """The transformer of a released checkpoint as a MODEL of the host.

    Also the factory by which the host makes fresh copies (several GPUs, compilation).
    """
    state_dict, keys = _read_released(Path(path))
    check_base(Path(path), keys, shapes_of(state_dict))
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


def load_model(
    path: Path, transforms: Path, model_options: dict[str, Any]
) -> tuple[comfy.model_patcher.ModelPatcher, Adapter]:
    """A released model: the base as a MODEL with corrected positions, and the adapter.

    Raises:
        ValueError: The file is something else (named), is damaged, or does not fit its config.
        FileNotFoundError: A shard is missing.
    """
    state_dict, keys = _read_released(path)
    shapes = shapes_of(state_dict)
    check_base(path, keys, shapes)
    if not keys.has_adapter:
        raise ValueError(
            f"{path} holds a transformer but no FantasyID adapter: {describe_keys(shapes)}. Load "
            "it with Load Diffusion Model, and the adapter with Load FantasyID Adapter"
        )
    adapter = _adapter(state_dict, keys, transforms, str(path))
    return _base(str(path), _pick(state_dict, keys.base), model_options, False), adapter


def load_face_encoder(path: Path) -> FaceEncoder:
    """EVA02-CLIP, released or converted, as far as the face tokens need it."""
    weights = read_eva(path)
    config = _in_words(path, EvaConfig.from_shapes, shapes_of(weights))
    patcher = managed(lambda **w: EvaVisionTransformer(config, **w), weights, str(path))
    return FaceEncoder(patcher, str(path), weights_fingerprint(weights))


def load_deca(deca: Path, flame: Path) -> Deca:
    """The DECA encoder and the FLAME layer, from the published files or converted ones."""
    weights = read_deca(deca)
    config = _in_words(deca, DecaConfig.from_shapes, shapes_of(weights))
    encoder = managed(lambda **w: DecaEncoder(config, **w), weights, str(deca))
    head = read_flame(flame)
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

"""Weights under the host's memory manager: read, checked, wrapped in a ModelPatcher.

Every module is built from `comfy.ops.manual_cast`, so its layers keep the dtype of the file and
compute in the dtype of their input, wherever the host has put them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import folder_paths
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..face.eva_clip import EvaVisionTransformer
from ..face.eva_keys import EVA_KEYS, EvaConfig
from ..geometry.deca import DecaConfig, DecaEncoder
from ..geometry.flame import Flame, FlameConfig
from ..geometry.topology import MeshTables
from ..injection.layers import InjectionConfig
from ..weights.fingerprint import weights_fingerprint
from ..weights.header import SUFFIXES
from ..weights.released import ModuleWeights, Released, fit_modules, read_released
from ..weights.third_party import read_deca, read_eva, read_flame, read_mesh_tables
from .cogvideox import correct_positions, require_cogvideox_i2v
from .numbers import is_finite

# Room for the activations of one identity stage (577 or 5023 tokens, one face), in bytes.
STAGE_ACTIVATIONS = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class Adapter:
    """The live parts of a FantasyID checkpoint besides the transformer."""

    abstractor: Any  # patcher of `FaceAbstractor`
    fusion: Any  # patcher of `VertexFusion`
    keys_values: Any  # patcher of `LayerKeysValues`, needed once per identity
    injectors: Any  # patcher of `LayerInjectors`, needed at every step
    tables: MeshTables  # mesh tables of the vertex branch
    source: str  # the file or folder, for words
    fingerprint: str = ""  # `fingerprint.weights_fingerprint` of the live weights

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


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of which one number spoils everything that is made with them.

    Raises:
        ValueError: Names the file and the tensors.
    """
    strange = []
    for name, tensor in weights.items():  # here a mapped file is first read, which may take minutes
        comfy.model_management.throw_exception_if_processing_interrupted()
        strange += [] if is_finite(tensor) else [name]
    if strange:
        raise ValueError(
            f"{source}: {len(strange)} tensors hold values that are not numbers (NaN or "
            f"infinity): {', '.join(strange[:5])}; the file is damaged, get it again"
        )


def managed(
    module: ModuleWeights[Tensor], source: str = "the weights"
) -> comfy.model_patcher.ModelPatcher:
    """Build a module for the host's memory manager and fill it.

    Names and shapes were checked before: the host's lazy loader would take any shape.
    """
    check_finite(module.weights, source)
    dtype = common_dtype(module.weights.values())
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    built = module.build(
        device=offload_device, dtype=dtype, operations=comfy.ops.manual_cast
    ).eval()
    comfy.model_management.archive_model_dtypes(built)
    patcher = comfy.model_patcher.CoreModelPatcher(
        built, load_device=load_device, offload_device=offload_device
    )
    built.load_state_dict(dict(module.weights), strict=True, assign=patcher.is_dynamic())
    return patcher


def load_to_device(*patchers: Any) -> torch.device:
    """Let the host load modules for one stage; returns the device to compute on."""
    comfy.model_management.load_models_gpu(list(patchers), memory_required=STAGE_ACTIVATIONS)
    return patchers[0].load_device


def _read(path: Path) -> Released[Tensor]:
    """Safetensors by the host, which maps the file, where its name lets the host see what it is."""

    def read_safetensors(file: Path) -> dict[str, Tensor]:
        if file.suffix not in SUFFIXES:
            return load_file(file)
        return cast(dict[str, Tensor], comfy.utils.load_torch_file(str(file)))

    return read_released(path, read_safetensors)


def load_model(
    path: Path, transforms: Path, model_options: dict[str, Any]
) -> tuple[comfy.model_patcher.ModelPatcher, Adapter]:
    """A released model: the base as a MODEL with corrected positions, and the adapter.

    Raises:
        ValueError: The file is something else (named), is damaged, or does not fit its config.
        FileNotFoundError: A shard is missing.
    """
    released = _read(path)
    weights = released.base()
    if not released.keys.has_adapter:
        raise ValueError(
            f"{path} holds a transformer but no FantasyID adapter: {released.words}. Load "
            "it with Load Diffusion Model, and the adapter with Load FantasyID Adapter"
        )
    adapter = _adapter(released, transforms)
    return host_base(str(path), weights, model_options, False), adapter


def load_adapter(path: Path, transforms: Path) -> Adapter:
    """The adapter of a released folder or of an adapter file, for a base loaded elsewhere."""
    return _adapter(_read(path), transforms)


def _adapter(released: Released[Tensor], transforms: Path) -> Adapter:
    modules = released.adapter_modules()
    tables = read_mesh_tables(transforms)
    source = str(released.path)
    patchers = [managed(module, source) for module in modules]
    patchers[-1].cached_patcher_init = (load_injectors, (source,))
    fingerprint = weights_fingerprint(released.live())
    return Adapter(*patchers, tables=tables, source=source, fingerprint=fingerprint)


def load_injectors(path: str, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The injectors alone: how the host makes the copy for another GPU."""
    del disable_dynamic  # a small model; the host's choice for it stands
    return managed(_read(Path(path)).injectors()[-1], path)


def load_base(
    path: str, model_options: dict[str, Any], disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """The transformer of a released checkpoint as a MODEL of the host.

    Also the factory by which the host makes fresh copies (several GPUs, compilation).
    """
    return host_base(path, _read(Path(path)).base(), model_options, disable_dynamic)


def host_base(
    path: str, weights: dict[str, Tensor], model_options: dict[str, Any], disable_dynamic: bool
) -> comfy.model_patcher.ModelPatcher:
    """Weights under the host's names as a MODEL with corrected positions.

    Raises:
        ValueError: ComfyUI does not know them, or one of them is not a number.
    """
    check_finite(weights, path)
    model = comfy.sd.load_diffusion_model_state_dict(
        weights, model_options=model_options, disable_dynamic=disable_dynamic
    )
    if model is None:
        raise ValueError(f"ComfyUI does not recognise the transformer in {path}")
    require_cogvideox_i2v(model)
    model.cached_patcher_init = (load_base, (path, model_options))
    return correct_positions(model)


def load_face_encoder(path: Path) -> FaceEncoder:
    """EVA02-CLIP, released or converted, as far as the face tokens need it."""
    on_disk = read_eva(path)
    weights = {EVA_KEYS.to_ours(name) or name: tensor for name, tensor in on_disk.items()}
    (tower,) = fit_modules(
        weights, EvaConfig, EvaVisionTransformer, source=str(path), keys=EVA_KEYS
    )
    return FaceEncoder(managed(tower, str(path)), str(path), weights_fingerprint(on_disk))


def load_deca(deca: Path, flame: Path) -> Deca:
    """The DECA encoder and the FLAME layer, from the published files or converted ones."""
    (encoder,) = fit_modules(read_deca(deca), DecaConfig, DecaEncoder, source=str(deca))
    (head,) = fit_modules(read_flame(flame), FlameConfig, _flame, source=str(flame))
    encoding, shaping = managed(encoder, str(deca)), managed(head, str(flame))
    return Deca(encoding, shaping, f"{deca.name} + {flame.name}")


def _flame(config: FlameConfig, operations: Any, **where: Any) -> Flame:
    del operations  # FLAME has tables, no layers
    return Flame(config, **where)


def load_text_encoder(path: Path) -> Any:
    """T5-XXL as the CLIP that CogVideoX takes, by the host."""
    return comfy.sd.load_clip(
        ckpt_paths=[str(path)],
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        clip_type=comfy.sd.CLIPType.COGVIDEOX,
    )


def load_vae(path: Path) -> Any:
    """The VAE, by the host.

    Raises:
        RuntimeError: The host does not recognise it.
    """
    state_dict, metadata = comfy.utils.load_torch_file(str(path), return_metadata=True)
    vae = comfy.sd.VAE(sd=state_dict, metadata=metadata)
    vae.throw_exception_if_invalid()
    return vae

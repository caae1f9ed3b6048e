"""From a released folder or file to checked weights, one line per hop.

path ── model_files ──> files ── read_model ──> tensors ── sort_released_keys ──> parts
     ── base / adapter_modules: names and shapes checked once ──> weights in our names
     ── fantasyid/comfyui/weights.py: built under the host's memory manager
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor, nn

from ..cogvideox.config import TransformerConfig
from ..face.abstractor import AbstractorConfig, FaceAbstractor
from ..fusion.transformer import FusionConfig, VertexFusion
from ..injection.layers import InjectionConfig, LayerInjectors, LayerKeysValues
from ..key_map import KeyMap
from ..shapes import Shapes
from .describe import describe_keys
from .header import read_json
from .keys import PARTS, check_state_dict, shapes_of, sort_released_keys
from .read import read_model, transformer_folder


class Shaped(Protocol):
    """A tensor, or what stands for one that is not read yet."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its axes."""
        ...


T = TypeVar("T", bound=Shaped)


@dataclass(frozen=True, slots=True)
class ModuleWeights(Generic[T]):
    """A module that can be built, and its weights, whose names and shapes were found to fit."""

    # Called with `device`, `dtype` and `operations`; gives the module, without weights.
    build: Callable[..., nn.Module]
    weights: Mapping[str, T]  # our names to weights


def fit_modules(
    weights: Mapping[str, T],
    config_type: Any,
    *module_types: Any,
    source: str,
    keys: KeyMap | None = None,
    looks_like: str = "",
) -> list[ModuleWeights[T]]:
    """Read the sizes of modules from their weights, and check that they use them up.

    Args:
        weights: Weights of all the modules in their own names.
        config_type: Has `from_shapes`.
        module_types: Called with the config and `device`, `dtype`, `operations`.
        source: The file, for errors.
        keys: Gives the names on disk, for errors.
        looks_like: What the file looks like, in words; by default told from the weights.

    Raises:
        ValueError: A key is missing, unexpected or misshapen; what the file looks like is said.
    """

    def on_disk(shapes: Shapes) -> dict[str, tuple[int, ...]]:
        return {
            (keys.to_released(name) if keys else None) or name: tuple(shape)
            for name, shape in shapes.items()
        }

    words = f"{source} ({module_types[-1].__name__})"
    found = on_disk(shapes_of(weights))
    looks_like = looks_like or describe_keys(found)
    modules: list[ModuleWeights[T]] = []
    expected: dict[str, tuple[int, ...]] = {}
    try:
        config = config_type.from_shapes(shapes_of(weights))
        for module_type in module_types:
            build = partial(module_type, config)
            needed = shapes_of(build(device="meta", dtype=None, operations=nn).state_dict())
            expected |= on_disk(needed)
            modules.append(ModuleWeights(build, {n: weights[n] for n in needed if n in weights}))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{words}: {error} ({looks_like})") from error
    check_state_dict(expected, found, words, looks_like)
    return modules


class Released(Generic[T]):
    """A transformer folder, adapter file or whole model, sorted by part.

    Args:
        path: The folder or file.
        tensors: Everything in it under the names on disk.
    """

    def __init__(self, path: Path, tensors: Mapping[str, T]) -> None:
        self.path, self.tensors = path, tensors
        self.keys = sort_released_keys(tensors)
        self.words = describe_keys(shapes_of(tensors))

    def base(self) -> dict[str, T]:
        """The whole CogVideoX-5B-I2V 1.0 transformer under the host's names.

        Raises:
            ValueError: It is absent, another one, or incomplete; or its `config.json` differs.
        """
        weights = self._part(self.keys.base)
        if not weights:
            hint = (
                ". Load it with Load FantasyID Adapter, and a CogVideoX-5B-I2V with Load "
                "Diffusion Model"
            )
            raise ValueError(
                f"{self.path} has no CogVideoX transformer: {self.words}"
                + (hint if self.keys.has_adapter else "")
            )
        shapes = shapes_of(weights)
        unknown = {key: tuple(self.tensors[key].shape) for key in self.keys.unknown}
        try:
            config = TransformerConfig.from_shapes(shapes)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error} ({self.words})") from error
        _check_config_file(transformer_folder(self.path) / "config.json", config)
        check_state_dict(config.shapes(), shapes | unknown, str(self.path), self.words)
        return weights

    def adapter_modules(self) -> list[ModuleWeights[T]]:
        """Abstractor, fusion, and both halves of the injectors.

        Raises:
            ValueError: A part is absent, or a key of it is missing, unexpected or misshapen.
        """
        if not self.keys.has_adapter:
            raise ValueError(
                f"{self.path} has no FantasyID adapter (face_abstractor, vertex_spiral_net, "
                f"vertex_reducer, layer_attention): {self.words}"
            )
        return [
            *self._fit("abstractor", AbstractorConfig, FaceAbstractor),
            *self._fit("fusion", FusionConfig, VertexFusion),
            *self.injectors(),
        ]

    def injectors(self) -> list[ModuleWeights[T]]:
        """The halves of the injectors: keys and values first, then what runs at every step."""
        return self._fit("injection", InjectionConfig, LayerKeysValues, LayerInjectors)

    def live(self) -> dict[str, T]:
        """What is read of the adapter, under its names on disk."""
        keys = self.keys
        parts = (keys.abstractor, keys.fusion, keys.injection)
        return {key: self.tensors[key] for part in parts for key in part.values()}

    def _part(self, names: Mapping[str, str]) -> dict[str, T]:
        return {ours: self.tensors[key] for ours, key in names.items()}

    def _fit(self, part: str, config: Any, *modules: Any) -> list[ModuleWeights[T]]:
        weights = self._part(getattr(self.keys, part))
        source, keys = str(self.path), PARTS[part]
        return fit_modules(
            weights, config, *modules, source=source, keys=keys, looks_like=self.words
        )


def read_released(
    path: Path, read_safetensors: Callable[[Path], dict[str, Tensor]] | None = None
) -> Released[Tensor]:
    """Locate, read and sort a released folder or file; see `read_model`."""
    return Released(path, read_model(path, read_safetensors))


def _check_config_file(path: Path, config: TransformerConfig) -> None:
    """`config.json` must agree with the weights beside it; without the file there is no check."""
    if not path.is_file():
        return
    try:
        stated = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(stated, dict):
        raise ValueError(f"{path} holds a {type(stated).__name__}, expected a table")
    differences = config.differences(stated)
    if differences:
        raise ValueError(
            f"{path} says {'; '.join(differences[:5])}: config and weights belong to "
            "different checkpoints"
        )

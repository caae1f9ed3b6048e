"""The live modules of an adapter: which weights each takes, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..face.abstractor import AbstractorConfig, FaceAbstractor
from ..fusion.transformer import FusionConfig, VertexFusion
from ..injection.layers import InjectionConfig, LayerInjectors, LayerKeysValues
from .keys import ReleasedKeys, Shapes, check_state_dict, shapes_of
from .lookalikes import describe_keys


@dataclass(frozen=True, slots=True)
class AdapterPart:
    """One module of the adapter.

    Attributes:
        names: Our name to released name.
        build: Called with `device`, `dtype` and `operations`; gives the module, without weights.
        source: The file and the module, for errors.
    """

    names: dict[str, str]
    build: Callable[..., nn.Module]
    source: str


def adapter_parts(keys: ReleasedKeys, shapes: Shapes, source: str) -> tuple[AdapterPart, ...]:
    """Abstractor, fusion and both halves of the injectors, names and shapes checked.

    Args:
        keys: The checkpoint's keys by part.
        shapes: Released name to shape.
        source: The file or folder, for errors.

    Raises:
        ValueError: A part is absent, or a key of it is missing, unexpected or misshapen.
    """
    if not keys.has_adapter:
        raise ValueError(
            f"{source} has no FantasyID adapter (face_abstractor, vertex_spiral_net, "
            f"vertex_reducer, layer_attention): {describe_keys(shapes)}"
        )
    return (
        *_parts(keys.abstractor, AbstractorConfig, (FaceAbstractor,), shapes, source),
        *_parts(keys.fusion, FusionConfig, (VertexFusion,), shapes, source),
        *injector_parts(keys, shapes, source),
    )


def injector_parts(keys: ReleasedKeys, shapes: Shapes, source: str) -> list[AdapterPart]:
    """The halves of the injectors: keys and values first, then what runs at every step."""
    halves = (LayerKeysValues, LayerInjectors)
    return _parts(keys.injection, InjectionConfig, halves, shapes, source)


def _parts(
    names: dict[str, str],
    config_type: Any,
    module_types: tuple[Any, ...],
    shapes: Shapes,
    source: str,
) -> list[AdapterPart]:
    """The modules that share the weights of one group, which they must use up."""
    found = {ours: tuple(shapes[released]) for ours, released in names.items()}
    words = f"{source} ({module_types[-1].__name__})"
    try:
        config = config_type.from_shapes(found)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{words}: {error}; {describe_keys(shapes)}") from error
    parts: list[AdapterPart] = []
    wanted: Shapes = {}
    for module_type in module_types:
        build = _builder(module_type, config)
        expected = shapes_of(build(device="meta", dtype=None, operations=nn).state_dict())
        # In the file's own names, where it has them; a key that is missing has only ours.
        wanted = {**wanted, **{names.get(ours, ours): s for ours, s in expected.items()}}
        present = {ours: names[ours] for ours in expected if ours in names}
        parts.append(AdapterPart(present, build, f"{source} ({module_type.__name__})"))
    try:
        check_state_dict(wanted, {key: shapes[key] for key in names.values()}, words)
    except ValueError as error:
        raise ValueError(f"{error} Otherwise {describe_keys(shapes)}") from error
    return parts


def _builder(module_type: Any, config: Any) -> Callable[..., nn.Module]:
    return lambda **where: module_type(config, **where)

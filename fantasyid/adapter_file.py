"""The three live modules of an adapter: which weights each takes, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .checkpoint import ReleasedKeys, Shapes, check_state_dict, shapes_of
from .face.abstractor import AbstractorConfig, FaceAbstractor
from .fusion import FusionConfig, VertexFusion
from .injection import InjectionConfig, LayerInjectors
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
    """The abstractor, the fusion and the injectors of a checkpoint, names and shapes checked.

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
    parts = []
    for names, config_type, module_type in (
        (keys.abstractor, AbstractorConfig, FaceAbstractor),
        (keys.fusion, FusionConfig, VertexFusion),
        (keys.injection, InjectionConfig, LayerInjectors),
    ):
        found = {ours: tuple(shapes[released]) for ours, released in names.items()}
        words = f"{source} ({module_type.__name__})"
        try:
            config = config_type.from_shapes(found)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{words}: {error}; {describe_keys(shapes)}") from error
        build = _builder(module_type, config)
        expected = build(device="meta", dtype=None, operations=nn).state_dict()
        # In the file's own names, where it has them; a key that is missing has only ours.
        wanted = {names.get(ours, ours): s for ours, s in shapes_of(expected).items()}
        try:
            check_state_dict(wanted, {key: shapes[key] for key in names.values()}, words)
        except ValueError as error:
            raise ValueError(f"{error} Otherwise {describe_keys(shapes)}") from error
        parts.append(AdapterPart(names, build, words))
    return tuple(parts)


def _builder(module_type: Any, config: Any) -> Callable[..., nn.Module]:
    return lambda **where: module_type(config, **where)

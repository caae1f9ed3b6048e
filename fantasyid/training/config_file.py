"""A configuration from its TOML file; whatever is wrong with it is named at once."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, Literal

from .config import Config


class ConfigError(ValueError):
    """What is wrong with a configuration, all of it at once."""


def load_config(path: Path) -> Config:
    """Read a TOML file.

    Raises:
        ConfigError: The file is no TOML, or keys are unknown, missing or of the wrong type: all of
            them named.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    problems: list[str] = []
    config = _build(Config, content, Path(path).parent.resolve(), "", problems)
    if not problems:
        problems += _contradictions(config)
    if problems:
        raise ConfigError(f"{path}: " + "; ".join(problems))
    return config


def _contradictions(config: Config) -> list[str]:
    curate, train = config.curate, config.train
    rules = {
        f"curate.frames is {curate.frames}, expected 8 k + 1": curate.frames % 8 != 1,
        f"curate.sizes has {list(map(list, curate.sizes))}, expected multiples of 16": any(
            side % 16 for size in curate.sizes for side in size
        ),
        f"train.batch_size {train.batch_size} is no multiple of train.samples_per_reference "
        f"{train.samples_per_reference}": train.batch_size % train.samples_per_reference != 0,
        "train.swap_blocks and train.fp8_base need model.base = 'frozen'": (
            (train.swap_blocks > 0 or train.fp8_base) and config.model.base != "frozen"
        ),
        "weights.transformer or model.base_sizes must say what the base is": (
            config.weights.transformer is None and not config.model.base_sizes
        ),
        "model.base = 'frozen' or 'lora' needs weights.transformer": (
            config.weights.transformer is None and config.model.base != "full"
        ),
    }
    return [sentence for sentence, broken in rules.items() if broken]


def _build(kind: Any, content: Any, root: Path, where: str, problems: list[str]) -> Any:
    """A dataclass from a table; what does not fit is added to `problems`."""
    if not isinstance(content, dict):
        problems.append(f"{where or 'the file'} must be a table")
        return None
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in content.keys() - fields.keys():
        close = difflib.get_close_matches(key, fields, 1)
        hint = f", did you mean {close[0]}?" if close else ""
        problems.append(f"unknown key {where}{key}{hint}")
    values = {}
    for name, f in fields.items():
        if name in content:
            values[name] = _value(hints[name], content[name], root, f"{where}{name}", problems)
        elif f.default is f.default_factory is dataclasses.MISSING:
            problems.append(f"{where}{name} is missing")
    return None if problems else kind(**values)


def _value(kind: Any, value: Any, root: Path, where: str, problems: list[str]) -> Any:
    """A value of a type hint; TOML's lists become tuples, strings paths where paths are wanted."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, root, f"{where}.", problems)
    if origin in (typing.Union, types.UnionType):  # X | None
        return (
            _value(arguments[0], value, root, where, problems) if value not in ("", None) else None
        )
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        inner = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(inner) == len(value):
            return tuple(
                _value(k, v, root, f"{where}[{i}]", problems)
                for i, (k, v) in enumerate(zip(inner, value, strict=True))
            )
    if kind is Path and isinstance(value, str):
        return root / Path(value).expanduser()
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    if origin is dict and isinstance(value, dict):
        return value
    expected = (
        f"one of {', '.join(map(str, arguments))}"
        if origin is Literal
        else str(getattr(kind, "__name__", kind))
    )
    problems.append(f"{where} is {value!r}, expected {expected}")
    return None

"""EVA02-CLIP, DECA, FLAME and the mesh transforms: as their makers publish them, or converted.

The published files are pickles of four kinds. Converted once to safetensors
(`python -m fantasyid.convert safetensors FILE`) they hold the part that is read, as plain tensors.
Which of the two a file is, its content says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..face.eva_keys import used_keys
from ..geometry.deca import deca_state_dict
from ..geometry.flame import (
    FILE_KEYS,
    NUM_DIRECTIONS,
    NUM_POSE_FEATURES,
    flame_state_dict,
)
from ..geometry.spiral import SPIRAL_LENGTH
from ..geometry.topology import TAPS, MeshTables, Pool, mesh_tables
from .describe import describe_keys
from .header import Form, sniff
from .read import only_tensors, read_torch_file, read_weights
from .safe_pickle import read_pickle

DECA_PREFIX = "E_flame."
COLUMNS = ".columns"  # of a table in a converted FLAME file that keeps some of them
TREE = "kintree_table"


def _in_words(path: Path, read: Callable[[Any], Any], content: Mapping[str, Any]) -> Any:
    """Call a reader; put the file's name before its complaint, and what the file is behind."""
    try:
        return read(content)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: {error} ({describe_keys(content)})") from error


def read_eva(path: Path) -> dict[str, Tensor]:
    """The tensors of the EVA02-CLIP tower that are used, by released names without `visual.`."""
    content = only_tensors(read_weights(path), path)
    keys = _in_words(path, used_keys, content)
    return {name: content[key] for name, key in keys.items()}


def read_deca(path: Path) -> dict[str, Tensor]:
    """The tensors of DECA's `E_flame` under their released names."""
    content = read_weights(path)
    flat = {
        name.removeprefix(DECA_PREFIX): tensor
        for name, tensor in content.items()
        if isinstance(name, str) and name.startswith(DECA_PREFIX)
    }
    return _in_words(path, deca_state_dict, {"E_flame": flat} if flat else content)


def read_flame(path: Path) -> dict[str, Tensor]:
    """The tables of a FLAME model under our names."""
    return _in_words(path, _flame_tables, _read_arrays(path))


def _flame_tables(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """FLAME's tables; of those that deform it a converted file may keep some columns alone.

    Beside such a table stand the numbers of its columns, `shapedirs.columns`; the rest is zero.

    Raises:
        ValueError: The numbers do not fit the table.
    """
    whole = {name: entry for name, entry in content.items() if not name.endswith(COLUMNS)}
    for name, width in (("shapedirs", NUM_DIRECTIONS), ("posedirs", NUM_POSE_FEATURES)):
        numbers, kept = content.get(name + COLUMNS), whole.get(name)
        if numbers is None or kept is None:
            continue
        fits = kept.ndim == 3 and numbers.dtype.kind in "iu" and numbers.shape == kept.shape[2:]
        if not fits or (numbers.size and not 0 <= numbers.min() <= numbers.max() < width):
            raise ValueError(
                f"FLAME file: {name}{COLUMNS} {numbers.shape} does not number the columns of "
                f"{name} {kept.shape} within 0..{width - 1}"
            )
        whole[name] = np.zeros((*kept.shape[:2], width), np.float32)
        whole[name][..., numbers] = kept
    return flame_state_dict(whole)


def read_mesh_tables(path: Path) -> MeshTables:
    """Spirals and pooling of the vertex branch."""
    content = _read_arrays(path)
    if "down_transform" in content:
        return _in_words(path, mesh_tables, content)
    if "coarse_index" in content:
        return _in_words(path, tables_from_arrays, content)
    raise ValueError(
        f"{path} is no mesh transforms file: {describe_keys(content)}; expected transform.pkl with "
        "down_transform, up_transform, vertices and face"
    )


def _read_arrays(path: Path) -> dict[str, Any]:
    """A published pickle, or the tensors of a converted file as arrays."""
    if sniff(path) is not Form.SAFETENSORS:
        return read_pickle(path)
    tensors = only_tensors(read_weights(path), path)
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in tensors.items()
    }


def tables_to_tensors(tables: MeshTables) -> dict[str, Tensor]:
    """Mesh tables as named tensors."""
    found = {"coarse_index": tables.coarse_index, "triangles": tables.triangles}
    for level, (pool, spirals) in enumerate(zip(tables.pools, tables.spirals, strict=True)):
        found[f"pools.{level}.index"] = pool.index
        found[f"pools.{level}.weight"] = pool.weight
        found[f"spirals.{level}"] = spirals
    return found


def tables_from_arrays(content: Mapping[str, np.ndarray]) -> MeshTables:
    """The mesh tables of a converted file, checked against each other.

    Raises:
        ValueError: An entry is missing, or names vertices that are not there.
    """

    def indices(name: str, columns: tuple[int, ...], below: int) -> Tensor:
        array = _entry(content, name)
        if array.dtype.kind not in "iu" or array.shape[1:] != columns or not len(array):
            raise ValueError(
                f"mesh tables: {name} is {array.dtype} {array.shape}, expected integers of shape "
                f"(any{''.join(f', {n}' for n in columns)})"
            )
        if array.min() < 0 or array.max() >= below:
            raise ValueError(f"mesh tables: {name} names vertices outside 0..{below - 1}")
        return torch.from_numpy(array.astype(np.int64))

    sizes = (
        len(_entry(content, "coarse_index")),
        *(len(_entry(content, f"spirals.{level}")) for level in (0, 1)),
    )
    pools = []
    for level in (0, 1):
        index = indices(f"pools.{level}.index", (TAPS,), sizes[level])
        weight = _entry(content, f"pools.{level}.weight")
        if weight.shape != tuple(index.shape) or not np.isfinite(weight).all():
            raise ValueError(
                f"mesh tables: pools.{level}.weight is not {tuple(index.shape)} finite"
            )
        if len(index) != sizes[level + 1]:
            raise ValueError(f"mesh tables: pools.{level} and spirals.{level} differ in length")
        pools.append(Pool(index, torch.from_numpy(weight.astype(np.float32))))
    spirals = [indices(f"spirals.{n}", (SPIRAL_LENGTH,), sizes[n + 1]) for n in (0, 1)]
    return MeshTables(
        coarse_index=indices("coarse_index", (), sizes[2]),
        pools=(pools[0], pools[1]),
        spirals=(spirals[0], spirals[1]),
        triangles=indices("triangles", (3,), sizes[2]),
    )


def _entry(content: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in content:
        raise ValueError(f"mesh tables: no entry {name!r}; the file has {sorted(content)}")
    return content[name]


def plain_tensors(path: Path) -> tuple[str, dict[str, Tensor]]:
    """What a published file holds, as the tensors of its converted form.

    Returns:
        The kind of file ("eva", "deca", "flame" or "mesh tables") and its tensors.

    Raises:
        ValueError: The file is none of the four, damaged, or asks to run something.
    """
    form = sniff(path)
    if form is Form.SAFETENSORS:
        raise ValueError(
            f"{path} is a safetensors file already; to split a FantasyID model use `split`"
        )
    if form is Form.PICKLE:
        content = read_pickle(path)
        if "down_transform" in content:
            return "mesh tables", tables_to_tensors(_in_words(path, mesh_tables, content))
        state = _in_words(path, flame_state_dict, content)
        tensors = {FILE_KEYS[name]: tensor for name, tensor in state.items()}
        tensors[TREE] = torch.from_numpy(np.asarray(content[TREE]).astype(np.int64))
        return "flame", tensors
    if "E_flame" in read_torch_file(path):
        return "deca", {DECA_PREFIX + name: tensor for name, tensor in read_deca(path).items()}
    return "eva", read_eva(path)

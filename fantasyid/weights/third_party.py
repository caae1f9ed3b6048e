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
from ..shapes import ShapeReader
from .describe import describe_keys
from .header import Form, sniff
from .read import only_tensors, read_torch_file, read_weights
from .safe_pickle import read_pickle

DECA_PREFIX = "E_flame."
COLUMNS = ".columns"  # of a table in a converted FLAME file that keeps some of them
TREE = "kintree_table"
MAX_ROWS = 1 << 18  # of FLAME's tables, three for each of 5023 vertices


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
        fits = fits and kept.shape[0] * kept.shape[1] <= MAX_ROWS  # no columns may claim any rows
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
    read = ShapeReader({name: array.shape for name, array in content.items()}, "mesh tables")
    coarse, middle, fine = (
        read.size("coarse_index", None),
        read.size("spirals.0", None, SPIRAL_LENGTH),
        read.size("spirals.1", None, SPIRAL_LENGTH),
    )
    read.axes("triangles", None, 3)

    def indices(name: str, below: int) -> Tensor:
        array = content[name]
        inside = array.dtype.kind in "iu" and array.size and 0 <= array.min() <= array.max() < below
        if not inside:
            raise read.error(f"{name} does not number vertices from 0 to {below - 1}")
        return torch.from_numpy(array.astype(np.int64))

    def pool(level: int, size: int, below: int) -> Pool:
        read.axes(f"pools.{level}.index", size, TAPS)
        read.axes(f"pools.{level}.weight", size, TAPS)
        weight = torch.from_numpy(content[f"pools.{level}.weight"].astype(np.float32))
        if not weight.isfinite().all():
            raise read.error(f"pools.{level}.weight has values that are not finite")
        return Pool(indices(f"pools.{level}.index", below), weight)

    return MeshTables(
        coarse_index=indices("coarse_index", fine),
        pools=(pool(0, middle, coarse), pool(1, fine, middle)),
        spirals=(indices("spirals.0", middle), indices("spirals.1", fine)),
        triangles=indices("triangles", fine),
    )


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

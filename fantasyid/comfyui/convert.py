"""The converter under the host: its folders, its progress bar, its stop button."""

from __future__ import annotations

import os
import re
from pathlib import Path

import folder_paths

from ..weights.convert import Written, split_model
from ..weights.describe import in_print
from ..weights.progress import in_words
from . import files, messages

BASE_FOLDER = "diffusion_models"


def name_problem(name: str | None) -> str | None:
    """What is wrong with a name for files, or None."""
    if (
        name
        and len(os.fsencode(name)) <= files.MOST_NAME_BYTES
        and re.fullmatch(r"[\w][\w .+-]*", name)
        and not name.endswith((".", " "))
    ):
        return None
    return (
        f"the name {in_print(name)!r} cannot be the name of a file: use letters, digits, spaces, "
        f"dots and dashes, at most {files.MOST_NAME_BYTES} bytes; the folders are fixed"
    )


def targets(name: str) -> tuple[Path, Path]:
    """Where base and adapter of that name go.

    Raises:
        ValueError: The name is no name of a file.
    """
    problem = name_problem(name)
    if problem:
        raise ValueError(problem)
    # The host lists its older folder `unet` first; a folder of the right name is preferred.
    bases = [Path(folder) for folder in folder_paths.get_folder_paths(BASE_FOLDER)]
    base = next((folder for folder in bases if folder.name == BASE_FOLDER), bases[0])
    adapter = files.searched_folders(files.ADAPTER)[0]
    return base / f"{name}_base.safetensors", adapter / f"{name}_adapter.safetensors"


def convert(model: str, name: str, dtype: str, overwrite: bool) -> str:
    """Split a released model into the host's folders; says what is there now.

    An interrupt stops it; the next run goes on from there.

    Raises:
        FileNotFoundError: The model is not there.
        FileExistsError: Files of that name are there and were made from something else.
        ValueError: The model is something else, or the name is no name of a file.
    """
    base, adapter = targets(name)
    written = split_model(
        files.find(files.MODEL, model),
        base,
        adapter,
        dtype=dtype,
        overwrite=overwrite,
        report=messages.on_bar(),
    )
    return "\n".join(_describe(file) for file in written)


def _describe(file: Written) -> str:
    how = "was there already" if file.was_there else "written and checked"
    size = in_words(file.num_bytes)
    return f"{file.path.name}: {size}, {file.num_tensors} tensors, {how} in {file.path.parent}"


def fingerprint(model: str, name: str) -> str:
    """Changes with the model and with the two files, so that a deleted one is written again."""
    there = [] if name_problem(name) else [f"{p}: {p.is_file()}" for p in targets(name)]
    return files.fingerprint((files.MODEL, model)) + repr(there)

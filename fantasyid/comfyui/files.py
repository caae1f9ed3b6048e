"""Files that nodes choose: of which kind, in which folders, and where to get a missing one.

A drop-down lists what is there. A name that is not there is answered with the folders that
were searched and where to get the file, at queue time, before anything runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import folder_paths

from ..weights.describe import in_print
from ..weights.download.files import how_to_get, target_name
from ..weights.identity_file import is_identity_file
from ..weights.read import TRANSFORMER_FOLDERS
from ..whole_file import write_numbered

FOLDER = "fantasyid"
EXTENSIONS = {".safetensors", ".pt", ".pth", ".bin", ".tar", ".pkl"}
MOST_NAME_BYTES = 200  # of a name, as most file systems have it, less number and ending
# Folders of the host that hold a user's own files, and how a drop-down marks names from them.
OWN_FOLDERS = {"input": "", "output": " [output]"}


@dataclass(frozen=True, slots=True)
class FileKind:
    """A slot for a file."""

    words: str  # what the file is, for people
    hint: tuple[str, ...]  # a drop-down shows names with one of these parts first
    where_from: str  # how to get it
    # Host folder names that are searched, with "input" and "output".
    folders: tuple[str, ...] = (FOLDER,)
    suffixes: tuple[str, ...] = ()  # endings of its names in the input and output folders
    accept: Callable[[Path], bool] | None = None  # whether a file is of this kind, by its content
    example: str = ""  # the name that a node has when nothing is found, so that it can explain
    may_be_folder: bool = False  # a released model is one


def _released(
    name: str, words: str, hint: tuple[str, ...], folders: tuple[str, ...] = (FOLDER,)
) -> FileKind:
    """The slot for a file of the table of downloads."""
    return FileKind(words, hint, how_to_get(name), folders, example=target_name(name))


MODEL = replace(
    _released(
        "FantasyID model",
        "FantasyID model",
        ("fantasyid", "transformer"),
        (FOLDER, "diffusion_models"),
    ),
    may_be_folder=True,
)
ADAPTER = FileKind("FantasyID adapter", ("fantasyid", "adapter"), MODEL.where_from)
FACE_ENCODER = _released("EVA02-CLIP face encoder", "EVA02-CLIP face encoder", ("eva",))
DECA = _released("DECA", "DECA checkpoint", ("deca",))
FLAME = _released("FLAME", "FLAME head model", ("generic_model", "flame"))
MESH_TRANSFORMS = _released("mesh transforms", "mesh transforms", ("transform.pkl",))
TEXT_ENCODER = _released(
    "T5 text encoder (fp16)", "T5 text encoder", ("t5xxl", "t5"), ("text_encoders",)
)
VAE = _released("CogVideoX VAE", "CogVideoX VAE", ("cogvideo",), ("vae",))
LORA = FileKind("LoRA", ("cogvideo", "lora"), "put the file into models/loras", ("loras",))
HEAD = FileKind(
    "head",
    (),
    "Save FantasyID Vertices writes heads into the output folder; a .ply, .obj or .glb from "
    "elsewhere, with 5023 vertices in FLAME order, goes into the input folder",
    ("input", "output"),
    (".ply", ".obj", ".glb"),
    example="head.ply",
)
IDENTITY = FileKind(
    "identity",
    (),
    "Save FantasyID Identity writes identities into the output folder; one from elsewhere goes "
    "into the input folder",
    ("input", "output"),
    (".safetensors",),
    is_identity_file,
    "identity.safetensors",
)
INSIGHTFACE = FileKind(
    "insightface pack", (), "put the pack into models/insightface", ("insightface", FOLDER)
)


def register_folders() -> None:
    """Make `models/fantasyid`, make it known to the host and list our extensions in it."""
    default = os.path.join(folder_paths.models_dir, FOLDER)
    with contextlib.suppress(OSError):  # a models folder that is only read
        os.makedirs(default, exist_ok=True)
    folder_paths.add_model_folder_path(FOLDER, default, is_default=True)
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, set(extensions) | EXTENSIONS)


def searched_folders(kind: FileKind) -> tuple[Path, ...]:
    """The folders that are searched for a kind of file, extra model paths included."""
    return tuple(folder for name in kind.folders for folder in _paths(name))


def _paths(name: str) -> list[Path]:
    if name in OWN_FOLDERS:
        return [Path(folder_paths.get_directory_by_type(name) or "")]
    try:
        listed = folder_paths.get_folder_paths(name)
    except KeyError:  # a folder of another extension that is not installed
        listed = []
    default = os.path.join(folder_paths.models_dir, name)
    return [Path(path) for path in dict.fromkeys([*listed, default])]


def _names(kind: FileKind, folder: str) -> list[str]:
    """What is in one folder of the host, as a drop-down writes it."""
    if folder not in OWN_FOLDERS:
        return [n.replace("\\", "/") for n in folder_paths.get_filename_list(folder)]
    (root,) = _paths(folder)
    own = (p for p in _walk(root, kind.suffixes) if kind.accept is None or kind.accept(p))
    return [p.relative_to(root).as_posix() + OWN_FOLDERS[folder] for p in own]


def _walk(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    # os.walk, because output folders hold many thousands of pictures.
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in names if name.lower().endswith(suffixes))


def file_choices(kind: FileKind) -> list[str]:
    """Names for a drop-down, likely first: what is there, for the host's card believes it."""
    names = {name for folder in kind.folders for name in _names(kind, folder)}

    def order(name: str) -> tuple[bool, bool, str]:
        likely = any(part in name.lower() for part in kind.hint)
        return not likely, name.endswith(OWN_FOLDERS["output"]), name

    return sorted(names, key=order)


def model_choices() -> list[str]:
    """Released model folders, then single transformer files; never empty."""
    folders: set[str] = set()
    for root in searched_folders(MODEL):
        for config in root.glob("**/config.json"):
            folder = config.parent
            if folder.name in TRANSFORMER_FOLDERS:
                folder = folder.parent
            elif not _says_cogvideox(config):
                continue
            folders.add(folder.relative_to(root).as_posix())
    inside = tuple(f"{folder}/" for folder in folders)
    single = [n for n in file_choices(MODEL) if n.endswith(".safetensors")]
    files = [name for name in single if not name.startswith(inside)]
    return [*sorted(folders - {"."}), *files] or ["FantasyID"]


def _says_cogvideox(config: Path) -> bool:
    """A glance at the beginning: whatever lies there, a drop-down waits for it."""
    try:
        with config.open("rb") as file:
            return b"CogVideoX" in file.read(2000)
    except OSError:  # a folder of that name
        return False


def find(kind: FileKind, name: str) -> Path:
    """The file (or model folder) behind a drop-down's name.

    Raises:
        FileNotFoundError: Names the file, the folders searched and where to get it.
    """
    folders = searched_folders(kind)
    plain = name
    if kind.folders[0] in OWN_FOLDERS:  # a name without a mark lies in the first of them
        plain, marked = folder_paths.annotated_filepath(name)
        folders = (Path(marked),) if marked else folders[:1]
    relative = os.path.relpath(os.path.join("/", plain), "/")  # keeps ".." inside the folder
    for folder in folders:
        path = folder / relative
        fits = not kind.suffixes or path.name.lower().endswith(kind.suffixes)
        # Of os.path, which says False of a name that is too long, where pathlib raises.
        there = os.path.exists if kind.may_be_folder else os.path.isfile
        if plain and fits and there(path):
            return path
    below = _in_a_subfolder(kind, relative)
    if below is not None:
        return below
    folder = plain and any(os.path.isdir(folder / relative) for folder in folders)
    what = "is a folder, where a file is expected" if folder else "is not there"
    raise FileNotFoundError(
        f'The {kind.words} "{in_print(name)}" {what}. Searched: '
        f"{', '.join(str(folder) for folder in folders)}. To get it: {kind.where_from}."
    )


def _in_a_subfolder(kind: FileKind, relative: str) -> Path | None:
    """The only file of the same name below a model folder: clones of a hub have folders in them."""
    if kind.folders[0] in OWN_FOLDERS:
        return None
    last = f"/{os.path.basename(relative)}"
    paths = (
        folder_paths.get_full_path(folder, name)
        for folder in kind.folders
        for name in _names(kind, folder)
        if f"/{name}".endswith(last)
    )
    found = {Path(path) for path in paths if path is not None}
    return found.pop() if len(found) == 1 else None


def missing_files(*chosen: tuple[FileKind, str | None]) -> list[str]:
    """Of each file that is not there what `find` says; a name of None, from a link, is not known.

    Returns:
        One text per file.
    """
    found = []
    for kind, name in chosen:
        try:
            if name is not None:
                find(kind, name)
        except FileNotFoundError as error:
            found.append(str(error))
    return found


def validate_files(*chosen: tuple[FileKind, str | None]) -> bool | str:
    """What a node's `validate_inputs` says of its files: True, or a line per missing one."""
    return "\n".join(missing_files(*chosen)) or True


def find_all(*chosen: tuple[FileKind, str]) -> list[Path]:
    """The files behind the names of one node.

    Raises:
        FileNotFoundError: One text for all that are missing, a line for each.
    """
    missing = missing_files(*chosen)
    if missing:
        raise FileNotFoundError("\n".join([f"Files are missing: {len(missing)}.", *missing]))
    return [find(kind, name) for kind, name in chosen]


def save_new(prefix: str, contents: Mapping[str, bytes]) -> Path:
    """Write files into the host's output folder, under a number that no file there has.

    Args:
        prefix: The name before the number; folders and the host's %date% words work.
        contents: Ending to content.

    Returns:
        The path of the first file.

    Raises:
        ValueError: The prefix is no name, is too long, or leads out of the output folder.
        OSError: The disk is full or refuses; names the file.
    """
    # The host counts the files of the last word only, so that "people/" would count none.
    parts = [part for part in prefix.replace("\\", "/").split("/") if part not in ("", ".")]
    if (
        not parts
        or ".." in parts
        or any(len(os.fsencode(part)) > MOST_NAME_BYTES for part in parts)
    ):
        raise ValueError(
            f"filename_prefix: {in_print(prefix)!r} is no name for a file in the output folder: "
            f"give at most {MOST_NAME_BYTES} bytes, without '..'"
        )
    folder, name, number, _, _ = folder_paths.get_save_image_path(
        "/".join(parts), folder_paths.get_output_directory()
    )
    return write_numbered(Path(folder), name, number, contents)


def saved_file(path: Path) -> dict[str, str]:
    """How the host's pages and scripts find a file of the output folder."""
    folder = path.parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return {"filename": path.name, "subfolder": "" if folder == "." else folder, "type": "output"}


def fingerprint(*chosen: tuple[FileKind, str]) -> str:
    """Changes when a file is replaced under the same name, so that the host's cache notices."""
    return "; ".join(_state(kind, name) for kind, name in chosen)


def _state(kind: FileKind, name: str) -> str:
    try:
        path = find(kind, name)
    except FileNotFoundError:
        return f"{name}: missing"
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return repr([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files])

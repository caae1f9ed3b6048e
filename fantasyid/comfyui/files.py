"""Where our files live: `models/fantasyid` and whatever extra_model_paths.yaml adds to it.

A drop-down lists what is there. A name that is not there is answered with the folders that
were searched and where to get the file, at queue time, before anything runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import folder_paths

FOLDER = "fantasyid"
EXTENSIONS = {".safetensors", ".pt", ".pth", ".bin", ".tar", ".pkl"}


@dataclass(frozen=True, slots=True)
class FileKind:
    """A slot for a file.

    Attributes:
        words: What the file is, for people.
        hint: A drop-down shows names with one of these parts first.
        where_from: How to get it.
        folders: Host folder names that are searched.
    """

    words: str
    hint: tuple[str, ...]
    where_from: str
    folders: tuple[str, ...] = (FOLDER,)


MODEL = FileKind(
    "FantasyID model",
    ("fantasyid", "transformer"),
    "clone huggingface.co/acvlab/FantasyID (or modelscope.cn/models/amap_cvlab/FantasyID) into "
    "models/fantasyid/FantasyID",
    (FOLDER, "diffusion_models"),
)
ADAPTER = FileKind("FantasyID adapter", ("fantasyid", "adapter"), MODEL.where_from)
FACE_ENCODER = FileKind(
    "EVA02-CLIP face encoder",
    ("eva",),
    "it comes with the FantasyID model as face_encoder/EVA02_CLIP_L_336_psz14_s6B.pt (also at "
    "huggingface.co/QuanSun/EVA-CLIP)",
)
DECA = FileKind(
    "DECA checkpoint",
    ("deca",),
    "register at deca.is.tue.mpg.de and put deca_model.tar into models/fantasyid",
)
FLAME = FileKind(
    "FLAME head model",
    ("generic_model", "flame"),
    "register at flame.is.tue.mpg.de, download FLAME 2020 and put generic_model.pkl into "
    "models/fantasyid",
)
MESH_TRANSFORMS = FileKind(
    "mesh transforms",
    ("transform.pkl",),
    "copy assets/transform.pkl of github.com/Fantasy-AMAP/fantasy-id into models/fantasyid",
)


def register_folders() -> None:
    """Make `models/fantasyid` known to the host and list our extensions in it."""
    default = os.path.join(folder_paths.models_dir, FOLDER)
    folder_paths.add_model_folder_path(FOLDER, default, is_default=True)
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, set(extensions) | EXTENSIONS)


def searched_folders(kind: FileKind) -> list[Path]:
    """The folders that are searched for a kind of file, extra model paths included."""
    return [Path(path) for name in kind.folders for path in folder_paths.get_folder_paths(name)]


def _names(kind: FileKind, accept: Callable[[str], bool]) -> list[str]:
    found = {n for folder in kind.folders for n in folder_paths.get_filename_list(folder)}
    names = sorted(n.replace("\\", "/") for n in found if accept(n))
    return sorted(names, key=lambda n: not any(h in n.lower() for h in kind.hint))


def file_choices(kind: FileKind) -> list[str]:
    """Names for a drop-down, likely ones first; never empty, so that the node can explain."""
    return _names(kind, lambda _: True) or [kind.hint[0]]


def model_choices() -> list[str]:
    """Released model folders, then single transformer files."""
    folders: set[str] = set()
    for root in searched_folders(MODEL):
        for config in root.glob("**/config.json"):
            folder = config.parent
            if folder.name in ("transformer", "transformer_ema"):
                folder = folder.parent
            elif "CogVideoX" not in config.read_text("utf-8", errors="replace")[:2000]:
                continue
            folders.add(folder.relative_to(root).as_posix())
    single = _names(MODEL, lambda n: n.endswith(".safetensors"))
    inside = tuple(f"{folder}/" for folder in folders)
    return [*sorted(folders - {"."}), *(n for n in single if not n.startswith(inside))] or [
        "FantasyID"
    ]


def find(kind: FileKind, name: str) -> Path:
    """The file (or model folder) behind a drop-down's name.

    Raises:
        FileNotFoundError: Names the file, the folders searched and where to get it.
    """
    relative = os.path.relpath(os.path.join("/", name), "/")  # keeps ".." inside the folder
    folders = searched_folders(kind)
    for folder in folders:
        if name and (folder / relative).exists():
            return folder / relative
    raise FileNotFoundError(
        f'The {kind.words} "{name}" is not there. Searched: '
        f"{', '.join(str(folder) for folder in folders)}. To get it: {kind.where_from}."
    )


def why_missing(kind: FileKind, name: str | None) -> str | None:
    """The sentence of `find`'s error, or None when the file is there (or comes from a link)."""
    if name is None:
        return None
    try:
        find(kind, name)
    except FileNotFoundError as error:
        return str(error)
    return None


def fingerprint(kind: FileKind, name: str) -> str:
    """Changes when a file is replaced under the same name, so that the host's cache notices."""
    try:
        path = find(kind, name)
    except FileNotFoundError:
        return f"{name}: missing"
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return repr(stats)


MESH_SUFFIXES = (".ply", ".obj", ".glb")


def insightface_folders() -> tuple[Path, ...]:
    """Where insightface packs may lie: `models/insightface` and its extra paths."""
    try:
        listed = folder_paths.get_folder_paths("insightface")
    except KeyError:
        listed = []
    default = os.path.join(folder_paths.models_dir, "insightface")
    return tuple(Path(p) for p in dict.fromkeys([*listed, default]))


def mesh_choices() -> list[str]:
    """PLY, OBJ and GLB files of the input folder and its subfolders."""
    root = Path(folder_paths.get_input_directory())
    found = (
        p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix.lower() in MESH_SUFFIXES
    )
    return sorted(found) or ["head.ply"]


def find_mesh(name: str) -> Path:
    """A mesh file of the input folder.

    Raises:
        FileNotFoundError: Names the file and the folder.
    """
    folder = Path(folder_paths.get_input_directory())
    path = folder / os.path.relpath(os.path.join("/", name), "/")
    if path.suffix.lower() in MESH_SUFFIXES and path.is_file():
        return path
    raise FileNotFoundError(
        f'The head "{name}" is not there. Searched: {folder}. Put a .ply, .obj or .glb with 5023 '
        "vertices in FLAME order there."
    )


def why_no_mesh(name: str | None) -> str | None:
    """The sentence of `find_mesh`'s error, or None when the file is there."""
    try:
        if name is not None:
            find_mesh(name)
    except FileNotFoundError as error:
        return str(error)
    return None


def mesh_fingerprint(name: str) -> str:
    """Changes when the file is replaced under the same name."""
    if why_no_mesh(name):
        return f"{name}: missing"
    stat = find_mesh(name).stat()
    return repr((stat.st_size, stat.st_mtime_ns))

"""The user's model files, where the real ones are to be run."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

from .console import Problem

# Role -> folder below the models folder, pattern of the file's name in any case, what it is.
REAL = {
    "model": ("fantasyid", "transformer",
              "the released FantasyID model folder, with its transformer folder"),
    "face_encoder": ("fantasyid", "*eva02_clip_l_336*.pt",
                     "the face encoder EVA02_CLIP_L_336_psz14_s6B.pt"),
    "deca": ("fantasyid", "*deca_model*.tar", "DECA's deca_model.tar"),
    "flame": ("fantasyid", "*generic_model*.pkl", "FLAME's generic_model.pkl"),
    "mesh_transforms": ("fantasyid", "*transform*.pkl", "the mesh transforms transform.pkl"),
    "clip": ("text_encoders", "*t5xxl*.safetensors",
             "the T5-XXL text encoder, such as t5xxl_fp16.safetensors"),
    "vae": ("vae", "*cogvideox*.safetensors",
            "the CogVideoX VAE, such as cogvideox_vae.safetensors"),
}  # fmt: skip


def find_file(models: Path, role: str) -> str | None:
    """The name of a released file as the host's loader will list it; None where it is absent."""
    where, pattern, _ = REAL[role]
    folder = models / where
    found = [path for path in folder.rglob("*") if fnmatch(path.name.lower(), pattern)]
    if role == "model":
        found = [path.parent for path in found if path.parent != folder]
    if not found:
        return None
    name = min(found, key=lambda path: (len(path.parts), str(path))).relative_to(folder)
    # Our loaders list names with "/" on every system, the host's own with the system's separator.
    return name.as_posix() if where == "fantasyid" else str(name)


def find_real(models: Path) -> dict[str, str]:
    """Role -> name of the released files in a models folder.

    Raises:
        Problem: some are missing; each is named with the place where it goes.
    """
    if not models.is_dir():
        raise Problem(f"There is no folder {models}: give --models a ComfyUI models folder.")
    found = {role: name for role in REAL if (name := find_file(models, role))}
    absent = [REAL[role] for role in REAL if role not in found]
    if absent:
        rows = "\n".join(f"    {models / folder}: {words}" for folder, _, words in absent)
        raise Problem(
            f"{len(absent)} of {len(REAL)} model files are missing; docs/models.md says where "
            f"to get them, and they go here:\n{rows}"
        )
    return found


def write_model_paths(models: Path, listing: Path) -> list[str]:
    """Write the list of paths by which the server finds a models folder; returns its options."""
    rows = [f"  base_path: {json.dumps(str(models))}"]  # JSON strings are YAML strings
    rows += [f"  {folder}: {folder}" for folder in ("fantasyid", "text_encoders", "vae")]
    listing.write_text("\n".join(["fantasyid_quickstart:", *rows]) + "\n", encoding="utf-8")
    return ["--extra-model-paths-config", str(listing)]

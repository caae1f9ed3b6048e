"""Which weights the demo runs on: tiny random ones that it writes, or the user's real ones."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .console import Problem, step

TINY_LABEL = "tiny_random_weights"


@dataclass(frozen=True)
class Weights:
    """The names that the loader nodes are given, and how the server finds them.

    Args:
        kind: "tiny" or "real".
        names: role -> name in the loader's list.
        server_options: command-line options that let the server find the files.
    """

    kind: str
    names: dict[str, str]
    server_options: tuple[str, ...] = ()

    @property
    def tiny(self) -> bool:
        """Whether these are random weights, whose video is noise."""
        return self.kind == "tiny"


@dataclass(frozen=True)
class Wanted:
    """One file of the released set: where it goes and how it is known.

    Args:
        role: name in `Weights.names`.
        folder: below the models folder.
        pattern: of the file, relative to the folder, in any case.
        words: what it is, for the message when it is missing.
    """

    role: str
    folder: str
    pattern: str
    words: str


TINY = {
    "model": "tiny-fantasyid",
    "face_encoder": "tiny_EVA02_CLIP_L_336_psz14_s6B.pt",
    "deca": "tiny_deca_model.tar",
    "flame": "tiny_generic_model.pkl",
    "mesh_transforms": "tiny_transform.pkl",
    "clip": "tiny_t5xxl.safetensors",
    "vae": "tiny_cogvideox_vae.safetensors",
}
TINY_FOLDERS = {"clip": "text_encoders", "vae": "vae"}  # all others: fantasyid

REAL = (
    Wanted("model", "fantasyid", "**/transformer", "the released FantasyID model folder, with "
           "its transformer folder"),
    Wanted("face_encoder", "fantasyid", "**/*EVA02_CLIP_L_336*.pt", "the face encoder "
           "EVA02_CLIP_L_336_psz14_s6B.pt"),
    Wanted("deca", "fantasyid", "**/*deca_model*.tar", "DECA's deca_model.tar"),
    Wanted("flame", "fantasyid", "**/*generic_model*.pkl", "FLAME's generic_model.pkl"),
    Wanted("mesh_transforms", "fantasyid", "**/*transform*.pkl", "the mesh transforms "
           "transform.pkl"),
    Wanted("clip", "text_encoders", "**/*t5xxl*.safetensors", "the T5-XXL text encoder, such as "
           "t5xxl_fp16.safetensors"),
    Wanted("vae", "vae", "**/*cogvideox*.safetensors", "the CogVideoX VAE, such as "
           "cogvideox_vae.safetensors"),
)  # fmt: skip


def tiny_source_hash(root: Path) -> str:
    """Hash of the code that writes the tiny files: when it changes they are written anew."""
    digest = hashlib.sha256()
    for path in sorted((root / "miniature").rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def tiny_paths(models: Path) -> list[Path]:
    """Every file or folder that the tiny set consists of."""
    return [models / TINY_FOLDERS.get(role, "fantasyid") / name for role, name in TINY.items()]


def tiny_weights(python: Path, root: Path, models: Path) -> Weights:
    """Write the tiny checkpoints where they are missing or were written by other code."""
    stamp = models / "tiny_checkpoints.json"
    written = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
    wanted = json.dumps({"source": tiny_source_hash(root)})
    if written != wanted or not all(path.exists() for path in tiny_paths(models)):
        stamp.unlink(missing_ok=True)
        with step("Writing tiny checkpoints with random weights, in the released layouts", models):
            run = subprocess.run(
                [str(python), "-m", "miniature", "--out", str(models)],
                cwd=root,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        if run.returncode != 0:
            reason = run.stderr.strip().splitlines() or ["no reason given"]
            if "No space left" in run.stderr:
                raise Problem(f"The disk is full: the tiny checkpoints do not fit in {models}.")
            raise Problem(f"The tiny checkpoints could not be written: {reason[-1]}", code=1)
        absent = [path.name for path in tiny_paths(models) if not path.exists()]
        if absent:
            raise Problem(f"miniature did not write {', '.join(absent)}.", code=1)
        stamp.write_text(wanted, encoding="utf-8")
    return Weights("tiny", dict(TINY))


def find_wanted(models: Path, wanted: Wanted) -> str | None:
    """The name of a released file as the host's loader will list it; None where it is absent."""
    folder = models / wanted.folder
    pattern = wanted.pattern.rsplit("/", 1)[-1].lower()
    found = [
        path
        for path in (folder.rglob("*") if folder.is_dir() else ())
        if Path(path.name.lower()).match(pattern) and not path.name.startswith("tiny")
    ]
    if not found:
        return None
    best = min(found, key=lambda path: (len(path.parts), str(path)))
    if wanted.role == "model":
        best = best.parent
        if best == folder or best.name.startswith("tiny"):
            return None
    # Our loaders list names with "/" on every system, the host's own with the system's separator.
    name = best.relative_to(folder)
    return name.as_posix() if wanted.folder == "fantasyid" else str(name)


def real_weights(models: Path, host: Path) -> Weights:
    """Find the released files in a models folder and write the list of paths for the server.

    Raises:
        Problem: some are missing; each is named with the place where it goes.
    """
    models = models.expanduser().resolve()
    if not models.is_dir():
        raise Problem(f"There is no folder {models}: give --models a ComfyUI models folder.")
    names = {wanted.role: find_wanted(models, wanted) for wanted in REAL}
    absent = [wanted for wanted in REAL if names[wanted.role] is None]
    if absent:
        rows = "\n".join(f"    {models / want.folder}: {want.words}" for want in absent)
        raise Problem(
            f"{len(absent)} of {len(REAL)} model files are missing; README.md says where to get "
            f"them, and they go here:\n{rows}"
        )
    listing = host / "extra_model_paths.yaml"
    rows = [f"  base_path: {json.dumps(str(models))}"]  # JSON strings are YAML strings
    rows += [f"  {folder}: {folder}" for folder in ("fantasyid", "text_encoders", "vae")]
    listing.write_text("\n".join(["fantasyid_quickstart:", *rows]) + "\n", encoding="utf-8")
    options = ("--extra-model-paths-config", str(listing))
    return Weights("real", {role: name for role, name in names.items() if name}, options)

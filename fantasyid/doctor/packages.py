"""Versions of ComfyUI and of the optional packages, and which of them stand in each other's way.

Nothing is imported: a broken package must not break the doctor.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from .findings import NOTE, OK, WARNING, Finding

OPTIONAL = {
    "scikit-image": "finds a face without a model file",
    "insightface": "another face detector",
    "onnxruntime": "runs SCRFD, and the face recognisers of the metrics",
    "pytorch3d": "draws meshes on a GPU",
}
# Several of one family write into the same folder: the last one installed wins, and removing one
# breaks the other.
FAMILIES = {
    "onnxruntime": ("", "-gpu", "-directml", "-openvino", "-rocm"),
    "opencv": ("-python", "-python-headless", "-contrib-python", "-contrib-python-headless"),
}
# Not Meta's mesh renderer, whose name it has.
IMPOSTOR = "drtk"
SHOWN = ("torch", "numpy", "safetensors")


def host_version(comfyui: Path) -> str:
    """The version that a ComfyUI folder says it is, "" where it does not."""
    try:
        text = (comfyui / "comfyui_version.py").read_text("utf-8")
    except OSError:
        return ""
    match = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return match[1] if match else ""


def installed() -> dict[str, str]:
    """Version of every package that the doctor knows and that is installed."""
    names = {*OPTIONAL, *SHOWN, IMPOSTOR, *(n for start in FAMILIES for n in _family(start))}
    found = {}
    for name in sorted(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _family(start: str) -> list[str]:
    return [start + end for end in FAMILIES.get(start, ("",))]


def packages(versions: Mapping[str, str]) -> list[Finding]:
    """What the installed packages allow, and their clashes.

    Args:
        versions: Name to version, as `installed` gives.
    """
    shown = ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions)
    python = platform.python_version()
    facts = {"python": python, **{name: versions.get(name, "") for name in SHOWN}}
    found = [Finding(OK, "package", f"Python {python}, {shown}.", facts)]
    found += [_optional(name, use, versions) for name, use in OPTIONAL.items()]
    for start in FAMILIES:
        there = [f"{name} {versions[name]}" for name in _family(start) if name in versions]
        if len(there) > 1:
            text = (
                f"{' and '.join(there)} are installed together and overwrite each other's files: "
                "uninstall all of them, then install one."
            )
            found.append(Finding(WARNING, "package", text, {"clash": there}))
    if IMPOSTOR in versions:
        text = (
            f"{IMPOSTOR} {versions[IMPOSTOR]} from the package index is not the renderer of that "
            f"name but a stranger's upload: pip uninstall {IMPOSTOR}."
        )
        facts = {"impostor": IMPOSTOR, "version": versions[IMPOSTOR]}
        found.append(Finding(WARNING, "package", text, facts))
    return found


def _optional(name: str, use: str, versions: Mapping[str, str]) -> Finding:
    there = [n for n in _family(name) if n in versions]
    facts = {"name": name, "use": use, "versions": {n: versions[n] for n in there}}
    if there:
        words = ", ".join(f"{n} {versions[n]}" for n in there)
        return Finding(OK, "package", f"{words}: {use}.", facts)
    return Finding(NOTE, "package", f"{name} is not installed (optional: {use}).", facts)

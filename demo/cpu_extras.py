"""Run by the environment's Python: let torchvision and torchaudio import beside a CPU torch.

Their compiled parts on the package index are linked against CUDA. torchvision goes on without
them except that it gives two operators a fake kernel that nobody declared; torchaudio goes on
only where the compiled file is not there at all. ComfyUI imports both and, for what this project
does, calls neither compiled part. Nothing is touched where both import, nor beside a CUDA torch.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import torch

NOTE = "# Added by quickstart: declare what the compiled part would have declared."
DECLARATION = f"""

{NOTE}
if not _has_ops():
    _quickstart_library = torch.library.Library("torchvision", "FRAGMENT")
    for _quickstart_name in ("nms", "qnms"):
        _quickstart_library.define(
            _quickstart_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
"""


def imports(name: str) -> bool:
    """Whether a fresh interpreter can import the package."""
    run = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True)
    return run.returncode == 0


def package_folder(name: str) -> Path | None:
    """Where a package lies, found without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def declare_operators(torchvision: Path) -> None:
    """Append the missing declarations to torchvision's loader of compiled operators, once."""
    source = torchvision / "extension.py"
    text = source.read_text(encoding="utf-8")
    if NOTE not in text:
        source.write_text(text.rstrip("\n") + DECLARATION, encoding="utf-8")


def set_aside_compiled(torchaudio: Path) -> None:
    """Rename torchaudio's compiled files, so that it takes its path without them."""
    for pattern in ("*.so", "*.pyd", "*.dylib"):
        for compiled in (torchaudio / "lib").glob(pattern):
            compiled.replace(compiled.with_name(compiled.name + ".unused"))


def main() -> int:
    """Mend what does not import; 1 where that did not help."""
    if torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None:
        return 0
    broken = 0
    for name, mend in (("torchvision", declare_operators), ("torchaudio", set_aside_compiled)):
        folder = package_folder(name)
        if folder is None or imports(name):
            continue
        mend(folder)
        if imports(name):
            sys.stdout.write(f"{name}: made importable beside the CPU build of torch\n")
        else:
            sys.stderr.write(f"{name} does not import beside torch {torch.__version__}\n")
            broken = 1
    return broken


if __name__ == "__main__":
    sys.exit(main())

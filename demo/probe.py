"""Run by another interpreter: `probe.py PACKAGE...` prints as one JSON line what it has."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys


def lacks(package: str) -> bool:
    """Whether a distribution is not installed."""
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


def describe(packages: list[str]) -> dict[str, object]:
    """Python and torch versions, whether a CUDA device is seen, and the packages not found."""
    missing = [package for package in packages if lacks(package)]
    version, cuda = "", False
    try:
        import torch

        version, cuda = str(torch.__version__), bool(torch.cuda.is_available())
    except (ImportError, OSError):  # absent, half-installed, or a foreign build
        missing.append("a torch that imports")
    return {
        "version": platform.python_version(),
        "torch": version,
        "cuda": cuda,
        "missing": missing,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe(sys.argv[1:])) + "\n")

"""Run by another interpreter: print, as one JSON line, what it has. Needs nothing but itself."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys

NEEDED = (
    "torch",
    "torchvision",
    "torchaudio",
    "torchsde",
    "numpy",
    "einops",
    "transformers",
    "sentencepiece",
    "safetensors",
    "aiohttp",
    "yaml",
    "PIL",
    "scipy",
    "tqdm",
    "psutil",
    "alembic",
    "sqlalchemy",
    "av",
    "comfy_kitchen",
    "comfy_aimdo",
    "kornia",
    "spandrel",
    "pydantic_settings",
    "comfyui_frontend_package",
    "skimage",
)


def describe() -> dict[str, object]:
    """Python and torch versions, whether a CUDA device is seen, and the names not found."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    version, cuda = "", False
    if "torch" not in missing:
        try:
            import torch

            version, cuda = str(torch.__version__), bool(torch.cuda.is_available())
        except (ImportError, OSError):  # a half-installed or foreign build
            missing.append("torch")
    return {"python": platform.python_version(), "torch": version, "cuda": cuda, "missing": missing}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe()) + "\n")

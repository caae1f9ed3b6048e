"""Tiny files in exactly the released layouts, so that the same loaders read tiny and real models.

Their weights are random noise and their head is invented: they prove that everything runs, on any
machine, without a download.
"""

from .models import TinyModels, write_tiny_models

__all__ = ["TinyModels", "write_tiny_models"]

"""Turns published files into the ones that ComfyUI's folders like, tensor by tensor.

`split_model` makes a base and an adapter of a released folder, `convert_file` a safetensors of a
published pickle. Both are streamed, resumable, checked, and replace nothing unasked.
"""

from .split import PRECISIONS, convert_file, split_model
from .write import Written

__all__ = ["PRECISIONS", "Written", "convert_file", "split_model"]

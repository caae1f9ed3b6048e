"""Small models in exactly the released layouts, so that the same loaders read small and real ones.

`models` writes tiny ones with random weights and an invented head: they prove that all runs.
`world`, `making` and what they use draw people, train the mini model on them and measure it.
"""

from .models import TinyModels, write_tiny_models

__all__ = ["TinyModels", "write_tiny_models"]

"""Paper 3.5: layer-aware injection, its dials and its report."""

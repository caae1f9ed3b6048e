"""The 2D reading of a face: detection, alignment, EVA02-CLIP, C-Abstractor."""

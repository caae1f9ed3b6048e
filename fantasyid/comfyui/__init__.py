"""Everything that touches ComfyUI: folders, weights, the patched model, sampling."""

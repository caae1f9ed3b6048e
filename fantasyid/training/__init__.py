"""Paper 4.1: from a folder of clips to an adapter that the nodes load. Outside ComfyUI.

`python -m fantasyid.training curate | cache | check | train | export CONFIG.toml`, with
`pip install .[training]`. docs/training.md is the guide.
"""

"""FantasyID (arXiv 2502.13995): identity-preserving text-to-video on CogVideoX.

The modules here are plain torch and know nothing of ComfyUI; `fantasyid.host` is the one
place that does.
"""

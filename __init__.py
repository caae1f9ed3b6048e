"""ComfyUI-FantasyID: identity-preserving video from one face photo and a prompt."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called by ComfyUI; imports here, so that importing the package alone costs nothing."""
    from .nodes import FantasyIDExtension

    return FantasyIDExtension()

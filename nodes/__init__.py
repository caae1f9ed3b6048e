"""The nodes: sockets and words. One file per stage; no arithmetic."""

from comfy_api.latest import ComfyExtension, io

from ..fantasyid.host.files import register_folders
from .apply import FantasyIDApply, FantasyIDFaceLatent
from .convert import FantasyIDConvert
from .face import FantasyIDAlignFace, FantasyIDMultiView
from .geometry import (
    FantasyIDFaceVertices,
    FantasyIDLoadVertices,
    FantasyIDSaveVertices,
    FantasyIDVerticesToMesh,
)
from .head_editing import FantasyIDAverageGeometry, FantasyIDEditGeometry
from .loaders import (
    FantasyIDAdapterLoader,
    FantasyIDDecaLoader,
    FantasyIDFaceEncoderLoader,
    FantasyIDModelLoader,
)
from .sampling import (
    FantasyIDGuider,
    FantasyIDSampler,
    FantasyIDSamplerSelect,
    FantasyIDScheduler,
)
from .tokens import FantasyIDCombine, FantasyIDFaceTokens, FantasyIDFuse

NODES: list[type[io.ComfyNode]] = [
    FantasyIDModelLoader,
    FantasyIDAdapterLoader,
    FantasyIDFaceEncoderLoader,
    FantasyIDDecaLoader,
    FantasyIDAlignFace,
    FantasyIDMultiView,
    FantasyIDFaceVertices,
    FantasyIDLoadVertices,
    FantasyIDVerticesToMesh,
    FantasyIDSaveVertices,
    FantasyIDEditGeometry,
    FantasyIDAverageGeometry,
    FantasyIDFaceTokens,
    FantasyIDCombine,
    FantasyIDFuse,
    FantasyIDApply,
    FantasyIDFaceLatent,
    FantasyIDScheduler,
    FantasyIDSamplerSelect,
    FantasyIDGuider,
    FantasyIDSampler,
    FantasyIDConvert,
]


class FantasyIDExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def on_load(self) -> None:
        """Make `models/fantasyid` known before any drop-down is filled."""
        register_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the extension."""
        return NODES

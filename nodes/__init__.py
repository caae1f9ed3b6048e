"""The nodes: sockets and words. One file per stage; no arithmetic."""

from comfy_api.latest import ComfyExtension, io

from ..fantasyid.comfyui.examples import place_examples
from ..fantasyid.comfyui.files import register_folders
from ..fantasyid.comfyui.numbers import refuse_what_is_no_number
from .apply import FantasyIDApply, FantasyIDLayerWeights
from .best_of import FantasyIDBestOf
from .convert import FantasyIDConvert
from .doctor import FantasyIDDoctor
from .download import FantasyIDDownload
from .evaluate import FantasyIDCompare, FantasyIDMetrics
from .face import FantasyIDAlignFace, FantasyIDMultiView
from .geometry import (
    FantasyIDFaceVertices,
    FantasyIDLoadVertices,
    FantasyIDSaveVertices,
    FantasyIDVerticesToMesh,
)
from .head_editing import FantasyIDAverageGeometry, FantasyIDEditGeometry
from .identity import (
    FantasyIDBlendIdentities,
    FantasyIDInspectIdentity,
    FantasyIDLoadIdentity,
    FantasyIDSaveIdentity,
)
from .latents import FantasyIDDecode, FantasyIDFaceLatent
from .loaders import (
    FantasyIDAdapterLoader,
    FantasyIDDecaLoader,
    FantasyIDFaceEncoderLoader,
    FantasyIDModelLoader,
)
from .lora import FantasyIDLoraLoader
from .miniature import FantasyIDMiniLoader
from .report import FantasyIDInjectionReport
from .sampling import FantasyIDGuider, FantasyIDSampler, FantasyIDSamplerSelect, FantasyIDScheduler
from .start import FantasyIDFromPhoto, FantasyIDLoader
from .tokens import FantasyIDCombine, FantasyIDFaceTokens, FantasyIDFuse

NODES: list[type[io.ComfyNode]] = [
    FantasyIDLoader,
    FantasyIDFromPhoto,
    FantasyIDMiniLoader,
    FantasyIDModelLoader,
    FantasyIDAdapterLoader,
    FantasyIDFaceEncoderLoader,
    FantasyIDDecaLoader,
    FantasyIDLoraLoader,
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
    FantasyIDSaveIdentity,
    FantasyIDLoadIdentity,
    FantasyIDBlendIdentities,
    FantasyIDInspectIdentity,
    FantasyIDLayerWeights,
    FantasyIDApply,
    FantasyIDFaceLatent,
    FantasyIDScheduler,
    FantasyIDSamplerSelect,
    FantasyIDGuider,
    FantasyIDSampler,
    FantasyIDDecode,
    FantasyIDBestOf,
    FantasyIDInjectionReport,
    FantasyIDMetrics,
    FantasyIDCompare,
    FantasyIDDoctor,
    FantasyIDConvert,
    FantasyIDDownload,
]


class FantasyIDExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def on_load(self) -> None:
        """Make `models/fantasyid` and the examples known before any drop-down is filled."""
        register_folders()
        place_examples()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the extension."""
        return [refuse_what_is_no_number(node) for node in NODES]

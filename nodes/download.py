"""The downloader as a node."""

from __future__ import annotations

from comfy_api.latest import io

from ..fantasyid.comfyui import download, messages
from ..fantasyid.weights.download import files
from . import types


class FantasyIDDownload(io.ComfyNode):
    """Model files come, when somebody asks for them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDDownload",
            display_name="FantasyID Download Models",
            category=f"{types.CATEGORY}/loaders",
            description="Fetch model files into ComfyUI's folders: checked, resumed where they "
            "were stopped, and only when this node is run. Files that are there are never "
            "touched. What needs a registration (DECA, FLAME) is explained instead.",
            search_aliases=["fetch", "install models", "huggingface", "modelscope", "weights"],
            inputs=[
                io.Combo.Input(
                    "what",
                    options=files.choices(),
                    tooltip="What to fetch. everything needed takes what no other file stands in "
                    "for, about 25 GB: FantasyID model 13.3 GB (licence on its page), EVA02-CLIP "
                    "0.86 GB (MIT), mesh transforms 0.9 MB (non-commercial), T5 fp16 9.8 GB "
                    "(Apache-2.0), CogVideoX VAE 0.43 GB (CogVideoX licence). T5 fp8 is 4.9 GB.",
                ),
                io.Combo.Input(
                    "mirror",
                    options=list(files.MIRRORS),
                    tooltip="Where to fetch from. huggingface follows HF_ENDPOINT; hf-mirror and "
                    "modelscope are for networks that cannot reach it. modelscope has the "
                    "FantasyID model and EVA02-CLIP. A half-fetched file goes on with another "
                    "mirror.",
                ),
                io.Boolean.Input(
                    "accept_licence",
                    default=False,
                    tooltip="Switch it on when you have read the licences and agree. Off, nothing "
                    "is fetched: the node lists what is missing, how large it is and its licence. "
                    "Start there.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "report", tooltip="What became of each file, and where it is. A line per file."
                )
            ],
            is_output_node=True,
            has_intermediate_output=True,
        )

    @classmethod
    def fingerprint_inputs(cls, what: str, mirror: str, accept_licence: bool) -> str:
        return f"{download.fingerprint(what)} {mirror} {accept_licence}"

    @classmethod
    def execute(cls, what: str, mirror: str, accept_licence: bool) -> io.NodeOutput:
        text = download.download(what, mirror, accept_licence)
        return io.NodeOutput(text, ui=messages.on_node(text))

"""Loaders: the released files become host-managed models."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..fantasyid.comfyui import files, weights
from . import inputs, types

WEIGHT_DTYPES = {
    "default": None,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}


class FantasyIDModelLoader(io.ComfyNode):
    """Load the released FantasyID model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDModelLoader",
            display_name="Load FantasyID Model",
            category=f"{types.CATEGORY}/loaders",
            description="Load a released FantasyID model: the CogVideoX transformer as MODEL, with "
            "its positions corrected, and the identity adapter beside it.",
            search_aliases=["identity", "consistent character", "cogvideox", "face video"],
            inputs=[
                inputs.file(
                    "model",
                    files.MODEL,
                    "Folder or .safetensors file of the FantasyID model, in "
                    "models/fantasyid or models/diffusion_models.",
                ),
                inputs.file(
                    "mesh_transforms",
                    files.MESH_TRANSFORMS,
                    "transform.pkl from the assets folder of the FantasyID repository. It "
                    "says how the head mesh is coarsened; without it the 3D half cannot run.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    tooltip="How the transformer is kept in memory. default keeps the file's "
                    "precision; fp8 halves the memory and changes the picture slightly. Start "
                    "with default; take fp8_e4m3fn on cards with 12 GB or less.",
                ),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="model"),
                types.Adapter.Output("adapter", display_name="adapter"),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str, mesh_transforms: str) -> bool | str:
        return files.validate_files((files.MODEL, model), (files.MESH_TRANSFORMS, mesh_transforms))

    @classmethod
    def fingerprint_inputs(cls, model: str, mesh_transforms: str, weight_dtype: str) -> str:
        chosen = (files.MODEL, model), (files.MESH_TRANSFORMS, mesh_transforms)
        return files.fingerprint(*chosen) + weight_dtype

    @classmethod
    def execute(cls, model: str, mesh_transforms: str, weight_dtype: str) -> io.NodeOutput:
        dtype = WEIGHT_DTYPES[weight_dtype]
        return io.NodeOutput(
            *weights.load_model(
                files.find(files.MODEL, model),
                files.find(files.MESH_TRANSFORMS, mesh_transforms),
                {} if dtype is None else {"dtype": dtype},
            )
        )


class FantasyIDAdapterLoader(io.ComfyNode):
    """Load the adapter alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDAdapterLoader",
            display_name="Load FantasyID Adapter",
            category=f"{types.CATEGORY}/loaders",
            description="Load the identity adapter alone, for a CogVideoX-5B-I2V MODEL that comes "
            "from any other loader.",
            search_aliases=["identity adapter", "face adapter"],
            inputs=[
                inputs.file(
                    "adapter",
                    files.MODEL,
                    "Folder or .safetensors file that holds the adapter; a whole "
                    "released FantasyID folder will do.",
                ),
                inputs.file(
                    "mesh_transforms",
                    files.MESH_TRANSFORMS,
                    "transform.pkl from the assets folder of the FantasyID repository.",
                ),
            ],
            outputs=[types.Adapter.Output("adapter_out", display_name="adapter")],
        )

    @classmethod
    def validate_inputs(cls, adapter: str, mesh_transforms: str) -> bool | str:
        return files.validate_files(
            (files.MODEL, adapter), (files.MESH_TRANSFORMS, mesh_transforms)
        )

    @classmethod
    def fingerprint_inputs(cls, adapter: str, mesh_transforms: str) -> str:
        return files.fingerprint((files.MODEL, adapter), (files.MESH_TRANSFORMS, mesh_transforms))

    @classmethod
    def execute(cls, adapter: str, mesh_transforms: str) -> io.NodeOutput:
        path = files.find(files.MODEL, adapter)
        transforms = files.find(files.MESH_TRANSFORMS, mesh_transforms)
        return io.NodeOutput(weights.load_adapter(path, transforms))


class FantasyIDFaceEncoderLoader(io.ComfyNode):
    """Load EVA02-CLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDFaceEncoderLoader",
            display_name="Load FantasyID Face Encoder (EVA02-CLIP)",
            category=f"{types.CATEGORY}/loaders",
            description="Load EVA02-CLIP-L-336, which reads the looks of the face.",
            search_aliases=["eva clip", "clip vision face"],
            inputs=[
                inputs.file(
                    "face_encoder",
                    files.FACE_ENCODER,
                    "EVA02_CLIP_L_336_psz14_s6B.pt, in models/fantasyid or a folder below it.",
                ),
            ],
            outputs=[types.FaceEncoder.Output("encoder", display_name="face encoder")],
        )

    @classmethod
    def validate_inputs(cls, face_encoder: str) -> bool | str:
        return files.validate_files((files.FACE_ENCODER, face_encoder))

    @classmethod
    def fingerprint_inputs(cls, face_encoder: str) -> str:
        return files.fingerprint((files.FACE_ENCODER, face_encoder))

    @classmethod
    def execute(cls, face_encoder: str) -> io.NodeOutput:
        path = files.find(files.FACE_ENCODER, face_encoder)
        return io.NodeOutput(weights.load_face_encoder(path))


class FantasyIDDecaLoader(io.ComfyNode):
    """Load DECA and FLAME."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDDecaLoader",
            display_name="Load FantasyID Head Model (DECA + FLAME)",
            category=f"{types.CATEGORY}/loaders",
            description="Load DECA, which reads the 3D shape of the head from a photo, and FLAME, "
            "the head model that it speaks. Both need registration with their makers and are for "
            "non-commercial use.",
            search_aliases=["deca", "flame", "3d face", "head mesh"],
            inputs=[
                inputs.file(
                    "deca", files.DECA, "deca_model.tar, in models/fantasyid or a folder below it."
                ),
                inputs.file(
                    "flame",
                    files.FLAME,
                    "generic_model.pkl of FLAME 2020 (what DECA was trained on) or "
                    "flame2023.pkl. Read without running any code that is in it.",
                ),
            ],
            outputs=[types.Deca.Output("deca_out", display_name="head model")],
        )

    @classmethod
    def validate_inputs(cls, deca: str, flame: str) -> bool | str:
        return files.validate_files((files.DECA, deca), (files.FLAME, flame))

    @classmethod
    def fingerprint_inputs(cls, deca: str, flame: str) -> str:
        return files.fingerprint((files.DECA, deca), (files.FLAME, flame))

    @classmethod
    def execute(cls, deca: str, flame: str) -> io.NodeOutput:
        paths = files.find(files.DECA, deca), files.find(files.FLAME, flame)
        return io.NodeOutput(weights.load_deca(*paths))

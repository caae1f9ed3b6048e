"""The 3D half: vertices from a photo or a file, and the head as a mesh."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import files, heads, images, messages, stages
from ..fantasyid.geometry.backends import BACKENDS
from ..fantasyid.geometry.files import FORMATS
from . import inputs, types

KEPT = {
    "keep_expression": "the photo's expression",
    "keep_jaw": "how far the photo's mouth is open",
    "keep_rotation": "where the head in the photo looks; it outweighs the shape in the depth",
}


class FantasyIDFaceVertices(io.ComfyNode):
    """DECA vertex extraction."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDFaceVertices",
            display_name="FantasyID Face Vertices (DECA)",
            category=f"{types.CATEGORY}/geometry",
            description="Read the 3D head from the photo: DECA gives FLAME codes, FLAME gives "
            "5023 vertices.",
            search_aliases=["deca", "flame", "3d face", "face mesh", "identity"],
            inputs=[
                types.Deca.Input("deca", tooltip="From Load FantasyID Head Model."),
                inputs.face(
                    "The aligned face (its whole photo is read, as released), or an image "
                    "to read directly; several images give the head of each, for Average Geometry."
                ),
                io.Combo.Input(
                    "mode",
                    options=list(stages.GEOMETRY_MODES),
                    tooltip="as released: the whole image, stretched; shape, expression, jaw and "
                    "head rotation are all kept, and rotation dominates what the network reads. "
                    "neutral: the square around the face, and the shape alone, as the paper "
                    "describes. custom: what you choose below. Start with as released.",
                ),
                *(
                    io.Boolean.Input(
                        name,
                        default=True,
                        optional=True,
                        advanced=True,
                        tooltip=f"With the mode custom only: keep {what}.",
                    )
                    for name, what in KEPT.items()
                ),
                io.Combo.Input(
                    "region",
                    options=list(stages.PHOTO_REGIONS),
                    optional=True,
                    advanced=True,
                    tooltip="With the mode custom only: read the whole image stretched to a "
                    "square, as released, or the square around the face, as DECA was trained. The "
                    "square needs a face from Align Face.",
                ),
            ],
            outputs=[types.Geometry.Output("geometry", display_name="geometry")],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        deca: Any,
        face: Any,
        mode: str,
        keep_expression: bool = True,
        keep_jaw: bool = True,
        keep_rotation: bool = True,
        region: str = stages.WHOLE_IMAGE,
    ) -> io.NodeOutput:
        custom = stages.KeptCodes(keep_expression, keep_jaw, keep_rotation, region)
        geometry = stages.compute_vertices(deca, images.as_face_crops(face), mode, custom)
        words = heads.describe_geometry(geometry)
        return io.NodeOutput(geometry, ui=messages.on_node(words))


class FantasyIDLoadVertices(io.ComfyNode):
    """A head from a mesh file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDLoadVertices",
            display_name="Load FantasyID Vertices",
            category=f"{types.CATEGORY}/geometry",
            description="Load a head in FLAME topology (5023 vertices) from a PLY, OBJ or GLB file "
            "in the input or output folder: saved heads, or those of any FLAME "
            "tracker. No DECA needed.",
            search_aliases=["ply", "obj", "point cloud", "flame head", "identity"],
            inputs=[
                inputs.file(
                    "file",
                    files.HEAD,
                    "A .ply, .obj or .glb in the input or output folder, 5023 vertices in FLAME "
                    "order, in metres.",
                ),
                types.Adapter.Input(
                    "adapter",
                    optional=True,
                    tooltip="Gives the triangles to a file that has points only, so that the head "
                    "can be shown as a mesh.",
                ),
            ],
            outputs=[types.Geometry.Output("geometry", display_name="geometry")],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        return files.validate_files((files.HEAD, file))

    @classmethod
    def fingerprint_inputs(cls, file: str, **_links: Any) -> str:
        return files.fingerprint((files.HEAD, file))

    @classmethod
    def execute(cls, file: str, adapter: Any = None) -> io.NodeOutput:
        return io.NodeOutput(heads.load_geometry(files.find(files.HEAD, file), adapter))


class FantasyIDVerticesToMesh(io.ComfyNode):
    """The head for the host's 3D nodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDVerticesToMesh",
            display_name="FantasyID Vertices to Mesh",
            category=f"{types.CATEGORY}/geometry",
            description="Turn the head into a MESH (Save 3D Model), a GLB file (Preview 3D & "
            "Animation) and a rendered picture from the front, three quarters and the side.",
            search_aliases=["head mesh", "glb", "3d preview", "render face"],
            inputs=[
                types.Geometry.Input("geometry", tooltip="A head from any FantasyID node."),
                io.Int.Input(
                    "size",
                    default=512,
                    min=64,
                    max=2048,
                    step=64,
                    tooltip="Side of each rendered view in pixels; larger is sharper and slower.",
                ),
                io.Combo.Input(
                    "backend",
                    options=list(BACKENDS),
                    optional=True,
                    advanced=True,
                    tooltip="What draws the views; the picture is the same. auto takes PyTorch3D "
                    "where it is installed and the GPU is CUDA, else the built-in one. torch is "
                    "the built-in one, on the CPU. pytorch3d insists on it.",
                ),
            ],
            outputs=[
                io.Mesh.Output("mesh", display_name="mesh"),
                io.File3DGLB.Output("glb", display_name="GLB"),
                io.Image.Output("views", display_name="views"),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, geometry: Any, size: int, backend: str = "auto") -> io.NodeOutput:
        mesh, glb, views = heads.to_mesh(geometry, size, backend)
        shown = messages.on_node(f"Head: {geometry.source}.", views, cls)
        return io.NodeOutput(mesh, glb, views, ui=shown)


class FantasyIDSaveVertices(io.ComfyNode):
    """A head to disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDSaveVertices",
            display_name="Save FantasyID Vertices",
            category=f"{types.CATEGORY}/geometry",
            description="Write the head to the output folder, with its triangles. Load FantasyID "
            "Vertices reads all three formats back with the same numbers.",
            search_aliases=["save head", "export ply", "export obj", "export glb"],
            is_output_node=True,
            inputs=[
                types.Geometry.Input("geometry", tooltip="A head from any FantasyID node."),
                io.String.Input(
                    "filename_prefix",
                    default="3d/fantasyid_head",
                    tooltip="Name before the number, in the output folder; a / makes a subfolder.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    tooltip="ply: small, for FantasyID and mesh tools. obj: text, for every 3D "
                    "program. glb: with normals and material, for viewers; needs triangles.",
                ),
            ],
            outputs=[
                io.String.Output("path", display_name="path"),
                io.File3DAny.Output("file", display_name="file"),
            ],
        )

    @classmethod
    def execute(cls, geometry: Any, filename_prefix: str, format: str) -> io.NodeOutput:
        path, file, shown = heads.save_geometry(geometry, filename_prefix, format)
        return io.NodeOutput(str(path), file, ui=shown)

"""The 3D half: vertices from a photo or a file, and the head as a mesh."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.host import files, heads, messages, stages
from . import types


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
                io.MultiType.Input(
                    "face",
                    types=[types.Face, io.Image],
                    tooltip="The aligned face (its whole photo is read, as released), or an image "
                    "to read directly.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(stages.GEOMETRY_MODES),
                    tooltip="as released: shape, expression, jaw and head rotation of the photo "
                    "are all kept, and rotation dominates what the network reads. neutral: the "
                    "shape alone, as the paper describes. Start with as released.",
                ),
            ],
            outputs=[types.Geometry.Output("geometry", display_name="geometry")],
        )

    @classmethod
    def execute(cls, deca: Any, face: Any, mode: str) -> io.NodeOutput:
        return io.NodeOutput(stages.compute_vertices(deca, face, mode))


class FantasyIDLoadVertices(io.ComfyNode):
    """A head from a mesh file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDLoadVertices",
            display_name="Load FantasyID Vertices",
            category=f"{types.CATEGORY}/geometry",
            description="Load a head in FLAME topology (5023 vertices) from a PLY or OBJ file in "
            "the input folder: point clouds of the released model, or heads from any FLAME "
            "tracker. No DECA needed.",
            search_aliases=["ply", "obj", "point cloud", "flame head", "identity"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=files.mesh_choices(),
                    tooltip="A .ply or .obj in the input folder, 5023 vertices in FLAME order, "
                    "in metres.",
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
        return files.why_no_mesh(file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str, **_links: Any) -> str:
        return files.mesh_fingerprint(file)

    @classmethod
    def execute(cls, file: str, adapter: Any = None) -> io.NodeOutput:
        return io.NodeOutput(heads.load_geometry(files.find_mesh(file), adapter))


class FantasyIDVerticesToMesh(io.ComfyNode):
    """The head for the host's 3D nodes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDVerticesToMesh",
            display_name="FantasyID Vertices to Mesh",
            category=f"{types.CATEGORY}/geometry",
            description="Turn the head into a MESH (Save 3D Model), a GLB file (Preview 3D) and a "
            "rendered picture from the front, three quarters and the side.",
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
            ],
            outputs=[
                io.Mesh.Output("mesh", display_name="mesh"),
                io.File3DGLB.Output("glb", display_name="GLB"),
                io.Image.Output("views", display_name="views"),
            ],
            hidden=[io.Hidden.unique_id],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(cls, geometry: Any, size: int) -> io.NodeOutput:
        mesh, glb, views = heads.to_mesh(geometry, size)
        shown = messages.on_node(f"Head: {geometry.source}.", cls.hidden.unique_id, views, cls)
        return io.NodeOutput(mesh, glb, views, ui=shown)

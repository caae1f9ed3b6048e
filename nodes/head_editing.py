"""The head changed by hand, and averaged over photos."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..fantasyid.comfyui import head_average, heads, messages
from ..fantasyid.geometry.average import METHODS
from ..fantasyid.geometry.edit import SIDES, HeadEdit, parse_components
from ..fantasyid.geometry.regions import SLIDERS_MM
from . import inputs, types

SLIDERS = {
    "face_width": "how wide the face is. Moves no depth on a head that looks straight ahead: there "
    "the released network cannot see it",
    "jaw_sharpness": "the jaw's sides: + narrows them towards the chin, - broadens them. Sideways "
    "only, like face_width",
    "chin_depth": "the chin forward (+) or back (-)",
    "cheek_depth": "the cheekbones forward (+) or back (-)",
    "nose_depth": "the nose forward (+) or back (-)",
    "brow_depth": "the brows forward (+) or back (-); the eyes move along",
}


def _slider(name: str) -> Any:
    return io.Float.Input(
        name,
        default=0.0,
        min=-1.0,
        max=1.0,
        step=0.01,
        display_mode=io.NumberDisplay.slider,
        tooltip=f"Moves {SLIDERS[name]}. 0 = unchanged; 1 = {SLIDERS_MM[name]:g} mm where it moves "
        "most.",
    )


class FantasyIDEditGeometry(io.ComfyNode):
    """Sliders for a head."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FantasyIDEditGeometry",
            display_name="FantasyID Edit Geometry",
            category=f"{types.CATEGORY}/geometry",
            description="Change the shape of the head, as in figure 4 of the paper, and see what "
            "moved. The released network reads only the depth of 314 vertices: the report says how "
            "much of an edit reaches it.",
            search_aliases=["face sliders", "edit head", "jaw", "nose", "blend faces"],
            inputs=[
                types.Geometry.Input("geometry", tooltip="The head to change, in any pose."),
                *(_slider(name) for name in SLIDERS_MM),
                inputs.share(
                    "amount",
                    1.0,
                    "Multiplies the whole edit. 0 gives the head back unchanged.",
                    most=2.0,
                    step=0.01,
                ),
                io.Combo.Input(
                    "side",
                    options=list(SIDES),
                    tooltip="both sides: the edit as it is; sliders are symmetric of themselves. "
                    "mirrored: a blend or component is made symmetric too. One half only: the "
                    "person's own left or right, fading out across the middle.",
                ),
                io.Int.Input(
                    "size",
                    default=320,
                    min=64,
                    max=1024,
                    step=32,
                    tooltip="Side of each picture in pixels; larger is sharper and slower.",
                ),
                io.String.Input(
                    "components",
                    default="",
                    optional=True,
                    tooltip='FLAME shape components to add: "0:1.5, 3:-0.8" is number:standard '
                    "deviations. Needs the head model below. The first ones change most.",
                ),
                io.Float.Input(
                    "blend",
                    default=0.0,
                    min=-1.0,
                    max=2.0,
                    step=0.01,
                    optional=True,
                    tooltip="0 = this head, 1 = the second head's shape and expression in this "
                    "head's pose. Below 0 and above 1 the difference is exaggerated.",
                ),
                types.Geometry.Input(
                    "second", optional=True, tooltip="Another head, for blend; its pose is removed."
                ),
                types.Deca.Input(
                    "deca",
                    optional=True,
                    tooltip="From Load FantasyID Head Model: gives the directions of components.",
                ),
                types.Adapter.Input(
                    "adapter",
                    optional=True,
                    tooltip="Knows which 314 vertices the network reads, and gives triangles to a "
                    "head that has none.",
                ),
            ],
            outputs=[
                types.Geometry.Output("edited", display_name="geometry"),
                io.Image.Output("views", display_name="views"),
                io.String.Output("report", display_name="report"),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls,
        geometry: Any,
        amount: float,
        side: str,
        size: int,
        components: str = "",
        blend: float = 0.0,
        second: Any = None,
        deca: Any = None,
        adapter: Any = None,
        **sliders: float,
    ) -> io.NodeOutput:
        edit = HeadEdit(sliders, parse_components(components), blend, side, amount)
        edited, views, report = heads.edit_geometry(geometry, edit, size, second, deca, adapter)
        shown = messages.on_node(report, views, cls)
        return io.NodeOutput(edited, views, report, ui=shown)


class FantasyIDAverageGeometry(io.ComfyNode):
    """One head from several photos."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        template = io.Autogrow.TemplatePrefix(
            types.Geometry.Input("geometry", tooltip="One or several heads of the same person."),
            prefix="geometry",
            min=1,
            max=16,
        )
        return io.Schema(
            node_id="FantasyIDAverageGeometry",
            display_name="FantasyID Average Geometry",
            category=f"{types.CATEGORY}/geometry",
            description="One head from several photos of one person: what differs from photo to "
            "photo averages out. With the head model the FLAME components are averaged and the "
            "head comes out neutral; otherwise the vertices are, laid onto each other.",
            search_aliases=["mean head", "several photos", "average face"],
            inputs=[
                io.Autogrow.Input("geometries", template=template),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    tooltip="mean: all count alike. median: one bad photo does little harm, from "
                    "three on. weighted: by frontality times sharpness of each photo, or by the "
                    "numbers below. by frontality: photos that look into the camera count more "
                    "(heads read as released; neutral ones all look ahead).",
                ),
                io.String.Input(
                    "weights",
                    default="",
                    optional=True,
                    tooltip='With the method weighted only: one number per head, "2, 1, 0.5". '
                    "Empty: measured. The report shows each head's weight.",
                ),
                types.Deca.Input(
                    "deca",
                    optional=True,
                    tooltip="From Load FantasyID Head Model: averages shape components instead of "
                    "vertices, which leaves expression and pose out.",
                ),
            ],
            outputs=[
                types.Geometry.Output("average", display_name="geometry"),
                io.String.Output("report", display_name="report"),
            ],
            has_intermediate_output=True,
        )

    @classmethod
    def execute(
        cls, geometries: io.Autogrow.Type, method: str, weights: str = "", deca: Any = None
    ) -> io.NodeOutput:
        given = [head for head in geometries.values() if head is not None]
        average, report = head_average.average_geometry(given, method, weights, deca)
        return io.NodeOutput(average, report, ui=messages.on_node(report))

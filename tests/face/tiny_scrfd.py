"""A face detector of a few kilobytes with the inputs and outputs of insightface's SCRFD.

A magenta cell of 32 x 32 pixels, on a multiple of 32, is a "face": the box reaches half a cell
beyond it on each side, the nose is in its middle. Needs the onnx package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ANCHORS = 2
CELL = 32
# In strides from the corner of the cell: left, top, right, bottom; then five points.
BOX = (0.5, 0.5, 1.5, 1.5)
POINTS = (0.2, 0.3, 0.8, 0.3, 0.5, 0.5, 0.3, 0.8, 0.7, 0.8)


def _head(name: str, source: str, weight: np.ndarray, bias: np.ndarray) -> tuple[list, list]:
    """1x1 convolution and reshape to rows of one anchor each."""
    width = len(bias) // ANCHORS
    weight = weight.astype(np.float32).reshape(-1, 1, 1, 1)
    constants = [
        numpy_helper.from_array(weight, f"{name}_w"),
        numpy_helper.from_array(bias.astype(np.float32), f"{name}_b"),
        numpy_helper.from_array(np.array([-1, width], np.int64), f"{name}_shape"),
    ]
    nodes = [
        helper.make_node("Conv", [source, f"{name}_w", f"{name}_b"], [f"{name}_map"]),
        helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [f"{name}_rows"]),
        helper.make_node("Sigmoid" if width == 1 else "Identity", [f"{name}_rows"], [name]),
    ]
    return nodes, constants


def write_scrfd(path: Path) -> None:
    """Write the detector."""
    magenta = np.array([0.5, -1.0, 0.5], np.float32).reshape(1, 3, 1, 1)
    nodes = [helper.make_node("Conv", ["input.1", "magenta"], ["likeness"])]
    constants = [numpy_helper.from_array(magenta, "magenta")]
    outputs: dict[str, int] = {}
    for stride in (8, 16, 32):
        pooled = f"pooled_{stride}"
        nodes.append(
            helper.make_node(
                "AveragePool",
                ["likeness"],
                [pooled],
                kernel_shape=[stride] * 2,
                strides=[stride] * 2,
            )
        )
        # The likeness is 2 for magenta, 0 for gray. Only the first anchor of the cells fires.
        slope = np.array([20.0 if stride == CELL else 0.0, 0.0])
        threshold = np.array([-30.0 if stride == CELL else -20.0, -20.0])
        heads = {
            "score": (slope, threshold),
            "bbox": (np.zeros(4 * ANCHORS), np.tile(BOX, ANCHORS)),
            "kps": (np.zeros(10 * ANCHORS), np.tile(POINTS, ANCHORS)),
        }
        for kind, (weight, bias) in heads.items():
            more_nodes, more_constants = _head(f"{kind}_{stride}", pooled, weight, bias)
            nodes += more_nodes
            constants += more_constants
            outputs[f"{kind}_{stride}"] = len(bias) // ANCHORS
    order = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in (8, 16, 32)]
    graph = helper.make_graph(
        nodes,
        "tiny_scrfd",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, "?", "?"])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, outputs[n]]) for n in order],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    onnx.save(model, path)

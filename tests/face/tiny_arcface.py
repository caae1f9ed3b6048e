"""A face recogniser of 300 kB with the input and output of insightface's ArcFace.

The embedding is a fixed random projection of the face's colors in 7 x 7 fields: the same picture
gives the same vector, another person another one. Needs the onnx package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FIELDS, WIDTH = 7, 512


def write_arcface(path: Path, side: int = 112) -> None:
    """Write the recogniser; another `side` makes it another kind of network."""
    inputs = 3 * FIELDS * FIELDS
    weight = np.random.default_rng(0).normal(size=(inputs, WIDTH)).astype(np.float32)
    cell = side // FIELDS
    nodes = [
        helper.make_node(
            "AveragePool", ["input.1"], ["fields"], kernel_shape=[cell] * 2, strides=[cell] * 2
        ),
        helper.make_node("Flatten", ["fields"], ["row"]),
        # Without its mean color: two people in one light are then strangers.
        helper.make_node("ReduceMean", ["row"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["row", "mean"], ["rest"]),
        helper.make_node("MatMul", ["rest", "weight"], ["1333"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_arcface",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, side, side])],
        [helper.make_tensor_value_info("1333", TensorProto.FLOAT, [1, WIDTH])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)

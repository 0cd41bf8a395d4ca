"""Tiny ONNX models of a YOLO's shape that answer the same boxes whatever they see, or show what they see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 9


def write_constant(
    path: Path,
    output: NDArray[np.float32],
    *,
    input_shape: tuple[int | str, ...] = (1, 3, 64, 96),
    element: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a model that gives this output, plus zero times the mean of its input."""
    numpy_type = helper.tensor_dtype_to_np_dtype(element)
    zero = numpy_helper.from_array(np.zeros((), numpy_type), "zero")
    answer = numpy_helper.from_array(output.astype(numpy_type), "answer")
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
    ]
    return _write(
        path,
        nodes,
        [zero, answer],
        input_shape=input_shape,
        output_shape=output.shape,
        element=element,
        metadata=metadata,
    )


def write_mean_colours(path: Path, *, width: int, height: int) -> Path:
    """Write a model with one v8 row: a box of fixed place, and the mean red, green, blue as scores of three classes."""
    box = numpy_helper.from_array(np.array([[[8.0], [8.0], [4.0], [4.0]]], np.float32), "box")
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["means", "last"], ["scores"]),
        helper.make_node("Concat", ["box", "scores"], ["output0"], axis=1),
    ]
    last = numpy_helper.from_array(np.array([2], np.int64), "last")
    return _write(
        path,
        nodes,
        [box, last],
        input_shape=(1, 3, height, width),
        output_shape=(1, 7, 1),
        element=TensorProto.FLOAT,
        metadata=None,
    )


def _write(path, nodes, constants, *, input_shape, output_shape, element, metadata) -> Path:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", element, list(input_shape))],
        [helper.make_tensor_value_info("output0", element, list(output_shape))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path

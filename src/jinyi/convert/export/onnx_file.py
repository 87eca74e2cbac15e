"""An ONNX graph and its files: in one, or with the weights beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jinyi import __version__
from jinyi.convert.export.extras import load_onnx

OPSET = 17
IR_VERSION = 8
# A protocol buffer holds 2 GiB; beyond this weights lie in a file beside the graph, as readers expect them there.
INLINE_BYTES = 1 << 30
DATA_FILE = "model.onnx_data"
_ALIGNED = 1 << 12  # so that readers can map the file

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """An array of the graph that is made when it is written: turned round, or rounded to float16."""

    dtype: Any
    size: int
    shape: tuple[int, ...]
    read: Callable[[], Array]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.size * int(np.dtype(self.dtype).itemsize)


@dataclass
class OnnxGraph:
    """A translated graph: nodes, inputs, outputs, and the arrays that stand in it, by their names."""

    nodes: list[Any] = field(default_factory=list)
    arrays: dict[str, Stored] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    def files(self) -> Iterator[tuple[str, bytes | Iterator[bytes]]]:
        """Yield the name and the bytes of each file: model.onnx, and before it the weights' file of a large model."""
        onnx = load_onnx()
        apart = sum(array.nbytes for array in self.arrays.values()) > INLINE_BYTES
        tensors, place = [], 0
        for name, array in self.arrays.items():
            # Shapes and axes stay in the graph: readers look at them before they read the weights.
            if apart and array.nbytes >= _ALIGNED:
                tensors.append(_outside(onnx, name, array, place))
                place += -(-array.nbytes // _ALIGNED) * _ALIGNED
            else:
                tensors.append(onnx.numpy_helper.from_array(array.read(), name))
        if apart:
            yield DATA_FILE, self._data()
        graph = onnx.helper.make_graph(self.nodes, "jinyi", self.inputs, self.outputs, tensors)
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="jinyi",
            producer_version=__version__,
        )
        if not apart:
            onnx.checker.check_model(model, full_check=True)
        yield "model.onnx", model.SerializeToString()

    def _data(self) -> Iterator[bytes]:
        for array in self.arrays.values():
            if array.nbytes >= _ALIGNED:
                yield array.read().tobytes()
                yield bytes(-array.nbytes % _ALIGNED)


def _outside(onnx: Any, name: str, array: Stored, place: int) -> Any:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(array.dtype))
    tensor = onnx.TensorProto(name=name, data_type=kind)
    tensor.dims.extend(array.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", DATA_FILE), ("offset", place), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor

"""Writes small .tflite models from Python."""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parity"))
from split_ops import write_model  # noqa: E402

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int8": 9}
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3


def options(name, **fields):
    """The options table `name` (`Conv2DOptions`) with the fields given."""
    table = getattr(schema, name + "T")()
    for key, value in fields.items():
        if not hasattr(table, key):
            raise AttributeError(f"{name} has no field {key}")
        setattr(table, key, value)
    return table


class Builder:
    """Collects tensors and operators; `finish` makes the file."""

    def __init__(self, description="golden model"):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = description
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.name = "main"
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]
        self.codes = {}

    def tensor(self, shape, dtype, scale=None, zero_point=0, axis=0, name=None):
        """A tensor without data; `scale` may be one number or one for each channel along `axis`."""
        tensor = schema.TensorT()
        tensor.shape = [int(dim) for dim in shape]
        tensor.type = TYPES[np.dtype(dtype).name]
        tensor.name = name or f"t{len(self.graph.tensors)}"
        tensor.hasRank = True
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            quantization.scale = scales
            quantization.zeroPoint = np.broadcast_to(np.atleast_1d(zero_point), scales.shape).astype(np.int64)
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, data, scale=None, zero_point=0, axis=0, name=None):
        """A tensor with data."""
        data = np.ascontiguousarray(data)
        index = self.tensor(data.shape, data.dtype, scale, zero_point, axis, name)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def operator(self, name, inputs, outputs, table=None, version=1, custom_options=None):
        """Adds an operator; `name` is the built-in's (`CONV_2D`) or, with `custom_options`, a custom one's."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(name, version, custom_options is not None)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if table is not None:
            kind = type(table).__name__[:-1]
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = table
        if custom_options is not None:
            operator.customOptions = np.frombuffer(custom_options, np.uint8)
        self.graph.operators.append(operator)

    def _code(self, name, version, custom):
        key = (name, version)
        if key not in self.codes:
            code = schema.OperatorCodeT()
            number = schema.BuiltinOperator.CUSTOM if custom else getattr(schema.BuiltinOperator, name)
            code.builtinCode = number
            code.deprecatedBuiltinCode = min(number, 127)
            code.customCode = name if custom else None
            code.version = version
            self.codes[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self.codes[key]

    def finish(self, inputs, outputs):
        """The bytes of the file."""
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        return write_model(self.model)

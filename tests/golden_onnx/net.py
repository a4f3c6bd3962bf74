"""Small float ONNX networks with random weights."""

import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Collects operators; `model` makes the file. Methods take and return names of tensors."""

    def __init__(self, name, opset=13):
        self.name, self.opset = name, opset
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def input(self, *shape, dtype=TensorProto.FLOAT):
        name = f"input{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name, *shape, dtype=TensorProto.FLOAT):
        self.outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def op(self, kind, *inputs, outputs=1, domain="", **attributes):
        names = [f"{kind.lower()}{len(self.nodes)}" + ("" if i == 0 else f"_{i}") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def conv(self, x, inputs, outputs, kernel=3, group=1, **attributes):
        shape = (outputs, inputs // group, kernel, kernel)
        fan_in = inputs // group * kernel * kernel
        weights = self.rng.normal(0, 1.5 / np.sqrt(fan_in), shape).astype(np.float32)
        weights *= self.rng.uniform(0.5, 1.5, (outputs, 1, 1, 1)).astype(np.float32)
        bias = self.rng.normal(0, 0.3, outputs).astype(np.float32)
        return self.op("Conv", x, self.constant(weights), self.constant(bias), group=group, **attributes)

    def linear(self, x, inputs, outputs):
        weights = self.rng.normal(0, 1 / np.sqrt(inputs), (outputs, inputs)).astype(np.float32)
        bias = self.rng.normal(0, 0.3, outputs).astype(np.float32)
        return self.op("Gemm", x, self.constant(weights), self.constant(bias), transB=1)

    def relu6(self, x):
        return self.op("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))

    def model(self):
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 21 else 10)
        onnx.checker.check_model(model)
        return model

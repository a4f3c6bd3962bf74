"""Makes `colours_float.onnx` of `colours_float.tflite`: the same network in ONNX, up to raw boxes and scores.

Pictures are NCHW, and the first convolution is followed by a batch normalization, as exporters leave it.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "parity"))
from split_ops import operator_name, read_model  # noqa: E402

RELU, SAME = 1, 0


class Twin:
    """The ONNX graph as it grows."""

    def __init__(self, model):
        self.model, self.graph = model, model.subgraphs[0]
        self.nodes, self.constants = [], []

    def data(self, index):
        tensor = self.graph.tensors[index]
        return np.frombuffer(self.model.buffers[tensor.buffer].data.tobytes(), np.float32).reshape(tensor.shape)

    def name(self, index):
        return self.graph.tensors[index].name.decode()

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def conv(self, operator, normalized):
        x, weights, bias = operator.inputs
        name, kernel, options = self.name(operator.outputs[0]), self.data(weights), operator.builtinOptions
        kernel, terms = kernel.transpose(0, 3, 1, 2), self.data(bias)
        pad = (kernel.shape[2] - 1) // 2 if options.padding == SAME else 0
        inputs = [self.name(x), self.constant(f"{name}/weights", kernel / 2 if normalized else kernel)]
        inputs += [] if normalized else [self.constant(f"{name}/bias", terms)]
        clamped = options.fusedActivationFunction == RELU
        result = self.op("Conv", inputs, f"{name}/sums" if clamped or normalized else name, pads=[pad] * 4)
        if normalized:  # (x - mean) / sqrt(variance) * scale + bias: x * 2 + terms
            ones = np.ones_like(terms)
            lists = [("scale", ones), ("shift", terms + 2), ("mean", ones), ("variance", ones / 4)]
            lists = [self.constant(f"{name}/{role}", value) for role, value in lists]
            result = self.op("BatchNormalization", [result, *lists], f"{name}/normalized", epsilon=0.0)
        if clamped:
            self.op("Relu", [result], name)

    def operator(self, operator):
        kind, name = operator_name(self.model, operator), self.name(operator.outputs[0])
        if kind == "CONV_2D":
            self.conv(operator, normalized=not self.nodes)
        elif kind == "AVERAGE_POOL_2D":
            window = [operator.builtinOptions.filterHeight, operator.builtinOptions.filterWidth]
            self.op("AveragePool", [self.name(operator.inputs[0])], name, kernel_shape=window, strides=window)
        elif kind == "RESHAPE":
            pixels = self.op("Transpose", [self.name(operator.inputs[0])], f"{name}/pixels", perm=[0, 2, 3, 1])
            shape = self.constant(f"{name}/shape", np.array(self.graph.tensors[operator.outputs[0]].shape, np.int64))
            self.op("Reshape", [pixels, shape], name)
        elif kind == "LOGISTIC":
            self.op("Sigmoid", [self.name(operator.inputs[0])], name)
        else:
            self.boxes, self.scores = (self.name(index) for index in operator.inputs[:2])


def to_onnx(content):
    """The ONNX model of a .tflite file's bytes."""
    twin = Twin(read_model(content))
    for operator in twin.graph.operators:
        twin.operator(operator)
    tensors = {tensor.name.decode(): [int(dim) for dim in tensor.shape] for tensor in twin.graph.tensors}
    picture = twin.name(twin.graph.inputs[0])
    batch, height, width, channels = tensors[picture]
    inputs = [helper.make_tensor_value_info(picture, TensorProto.FLOAT, [batch, channels, height, width])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, tensors[name]) for name in (twin.boxes, twin.scores)]
    graph = helper.make_graph(twin.nodes, "colours", inputs, outputs, twin.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    made = to_onnx((HERE / "colours_float.tflite").read_bytes())
    onnx.save(made, HERE / "colours_float.onnx")
    print(f"colours_float.onnx: {made.ByteSize()} bytes")

"""A golden model in the making, and the convolutions that most of them have."""

import zlib

import numpy as np

from builder import NONE, SAME, Builder, options


class Case:
    """A model in the making: a builder, a random generator, and what the stored answers mean."""

    def __init__(self, name):
        self.name = name
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.b = Builder("golden " + name)
        self.inputs, self.outputs = [], []
        self.tolerance, self.compare = 0, "values"
        self.twin = None  # a model whose answers are as good: the tolerance reaches as far as they do
        self.input_data = {}

    def codes(self, shape, dtype):
        """Uniformly random codes."""
        return self.rng.integers(0, 256, shape).astype(np.uint8).view(dtype).reshape(shape)

    def input(self, shape, dtype, scale=None, zero_point=0, data=None):
        index = self.b.tensor(shape, dtype, scale, zero_point, name=f"input{len(self.inputs)}")
        self.inputs.append(index)
        if data is None:
            data = self.codes(shape, dtype) if scale is not None else self.rng.normal(0, 1, shape).astype(dtype)
        self.input_data[index] = data
        return index

    def output(self, shape, dtype, scale=None, zero_point=0):
        index = self.b.tensor(shape, dtype, scale, zero_point, name=f"output{len(self.outputs)}")
        self.outputs.append(index)
        return index

    def bias(self, count, scale):
        """int32 biases of about one unit of real value, in the accumulator's scale."""
        scale = np.asarray(scale, np.float32)
        values = np.rint(self.rng.normal(0, 0.5, count) / scale).astype(np.int32)
        return self.b.constant(values, scale, 0)

    def weights(self, shape, dtype, fan_in, channels, axis, zero_point, gain):
        """Random weights with its scales: per channel for int8, per tensor for uint8."""
        step = gain * 2.0 / (127 * np.sqrt(fan_in))
        if dtype == np.int8:
            scale = (step * self.rng.uniform(0.5, 1.5, channels)).astype(np.float32)
            return self.b.constant(self.codes(shape, dtype), scale, 0, axis), scale
        scale = np.float32(2 * step)
        codes = np.clip(np.rint(self.rng.normal(zero_point, 35, shape)), 0, 255).astype(np.uint8)
        return self.b.constant(codes, scale, zero_point), scale


def same(size, stride):
    return -(-size // stride)


def valid(size, kernel, stride, dilation):
    return (size - (kernel - 1) * dilation - 1) // stride + 1


def window_size(hw, kernel, stride, dilation, padding):
    if padding == SAME:
        return [same(n, stride) for n in hw]
    return [valid(n, k, stride, dilation) for n, k in zip(hw, kernel)]


def convolution(case, source, shape, dtype, quant, out, kernel, channels, *, stride=1, dilation=1, padding=SAME,
                activation=NONE, depthwise=False, weight_zero=128, gain=1.0):
    """Adds CONV_2D or DEPTHWISE_CONV_2D (`channels`: the multiplier); returns the output's tensor and shape."""
    n, h, w, c = shape
    kh, kw = kernel
    oh, ow = window_size((h, w), kernel, stride, dilation, padding)
    oc = c * channels if depthwise else channels
    fan_in = kh * kw * (1 if depthwise else c)
    weight_shape = (1, kh, kw, oc) if depthwise else (oc, kh, kw, c)
    weight, scale = case.weights(weight_shape, dtype, fan_in, oc, 3 if depthwise else 0, weight_zero, gain)
    inputs = [source, weight, case.bias(oc, np.float32(quant[0]) * scale)]
    out_shape = (n, oh, ow, oc)
    target = case.b.tensor(out_shape, dtype, *out)
    fields = dict(padding=padding, strideW=stride, strideH=stride, dilationWFactor=dilation, dilationHFactor=dilation,
                  fusedActivationFunction=activation)
    if depthwise:
        table = options("DepthwiseConv2DOptions", depthMultiplier=channels, **fields)
        case.b.operator("DEPTHWISE_CONV_2D", inputs, [target], table, 3)
    else:
        case.b.operator("CONV_2D", inputs, [target], options("Conv2DOptions", **fields), 3)
    return target, out_shape

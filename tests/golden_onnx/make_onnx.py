"""Makes the tiny quantized models of this folder with ONNX Runtime's own tools and stores its answers beside them.

Run it without arguments; it rewrites every NAME.onnx and NAME.json. Weights and inputs are random, seeded by the
network's name.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from net import Net

HERE = Path(__file__).resolve().parent
NETS = {}
SIGNED, UNSIGNED = QuantType.QInt8, QuantType.QUInt8


def net(*ways, opset=13):
    """Registers a function `(Net) -> None` under its name, to be quantized in each of `ways`."""

    def register(function):
        NETS[function.__name__] = (function, ways, opset)
        return function

    return register


def qdq(suffix, activations=SIGNED, weights=SIGNED, per_channel=True):
    return suffix, dict(quant_format=QuantFormat.QDQ, activation_type=activations, weight_type=weights, per_channel=per_channel)


def on_codes(suffix, activations=UNSIGNED, weights=SIGNED, per_channel=True):
    return suffix, dict(qdq(suffix, activations, weights, per_channel)[1], quant_format=QuantFormat.QOperator)


QDQ = qdq("qdq")
QDQ_U8 = qdq("qdq_u8", UNSIGNED, UNSIGNED, False)
CODES = on_codes("codes")
CODES_S8 = on_codes("codes_s8", SIGNED, SIGNED, False)
DYNAMIC = "dynamic", None


@net(QDQ, QDQ_U8, CODES, CODES_S8, DYNAMIC)
def classifier(n):
    x = n.conv(n.input(1, 3, 17, 15), 3, 8, strides=[2, 2], pads=[0, 0, 1, 1])
    x = n.relu6(x)
    x = n.conv(x, 8, 8, group=8, pads=[1, 1, 1, 1])
    x = n.op("Relu", x)
    x = n.conv(x, 8, 12, kernel=1)
    x = n.op("GlobalAveragePool", x)
    x = n.op("Flatten", x)
    n.output(n.linear(x, 12, 7), 1, 7)


@net(QDQ, CODES)
def residual(n):
    x = n.relu6(n.conv(n.input(1, 3, 12, 12), 3, 8, auto_pad="SAME_UPPER", strides=[2, 2]))
    y = n.relu6(n.conv(x, 8, 24, kernel=1))
    y = n.relu6(n.conv(y, 24, 24, group=24, pads=[1, 1, 1, 1]))
    y = n.conv(y, 24, 8, kernel=1)
    x = n.op("Add", x, y)
    y = n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = n.op("Resize", y, "", n.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = n.op("Concat", x, y, axis=1)
    n.output(n.conv(x, 16, 5, kernel=1), 1, 5, 6, 6)


@net(QDQ, CODES, DYNAMIC)
def flattened_map(n):
    """A feature map of several pixels, flattened before a matrix product."""
    x = n.op("Relu", n.conv(n.input(1, 3, 9, 8), 3, 6, strides=[2, 2]))
    x = n.op("Flatten", x)
    n.output(n.linear(x, 6 * 4 * 3, 5), 1, 5)


@net(QDQ, QDQ_U8, CODES)
def ssd_head(n):
    """Two feature maps to boxes and scores."""
    first = n.op("Relu", n.conv(n.input(1, 3, 16, 16), 3, 8, strides=[2, 2], pads=[1, 1, 1, 1]))
    second = n.op("Relu", n.conv(first, 8, 8, strides=[2, 2], pads=[1, 1, 1, 1]))
    boxes, scores = [], []
    for x, cells in [(first, 64), (second, 16)]:
        for parts, columns in [(boxes, 4), (scores, 3)]:
            y = n.conv(x, 8, 2 * columns, kernel=1)
            y = n.op("Transpose", y, perm=[0, 2, 3, 1])
            parts.append(n.op("Reshape", y, n.ints(1, -1, columns)))
    n.output(n.op("Concat", *boxes, axis=1), 1, 160, 4)
    n.output(n.op("Sigmoid", n.op("Concat", *scores, axis=1)), 1, 160, 3)


@net(QDQ, CODES)
def pools(n):
    x = n.input(1, 3, 13, 11)
    a = n.op("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    b = n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    c = n.op("ReduceMean", n.op("Add", a, n.op("Pad", b, n.ints(0, 0, 0, 0, 0, 0, 1, 1))), axes=[2, 3], keepdims=0)
    n.output(n.op("Softmax", n.linear(c, 3, 6), axis=1), 1, 6)


@net(QDQ)
def squeeze_excite(n):
    """A gate of each channel, and x * relu6(x + 3) / 6 in parts."""
    x = n.conv(n.input(1, 3, 8, 8), 3, 8, pads=[1, 1, 1, 1])
    six = n.constant(np.float32(6))
    gate = n.relu6(n.op("Add", x, n.constant(np.float32(3))))
    x = n.op("Div", n.op("Mul", x, gate), six)
    s = n.op("ReduceMean", x, axes=[2, 3], keepdims=1)
    s = n.op("Relu", n.conv(s, 8, 4, kernel=1))
    s = n.op("Sigmoid", n.conv(s, 4, 8, kernel=1))
    n.output(n.op("Mul", x, s), 1, 8, 8, 8)


@net(QDQ)
def shuffled_groups(n):
    """Grouped convolution, channel shuffle, split and slices."""
    x = n.conv(n.input(1, 3, 8, 6), 3, 8, pads=[1, 1, 1, 1])
    x = n.conv(x, 8, 12, group=2, pads=[1, 1, 1, 1])
    x = n.op("Reshape", x, n.ints(1, 2, 6, 8, 6))
    x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = n.op("Reshape", x, n.ints(1, 12, 8, 6))
    a, b = n.op("Split", x, n.ints(4, 8), axis=1, outputs=2)
    a = n.op("Slice", a, n.ints(1, 0), n.ints(100, 6), n.ints(2, 3), n.ints(2, 1))
    a = n.conv(a, 4, 6, kernel=1)
    n.output(n.op("ReduceMean", b, axes=[2, 3]), 1, 8, 1, 1)
    n.output(a, 1, 6, 4, 6)


@net(QDQ)
def resized(n):
    x = n.conv(n.input(1, 3, 5, 6), 3, 4, kernel=1)
    up = n.op("Resize", x, "", "", n.ints(1, 4, 10, 12), mode="linear", coordinate_transformation_mode="half_pixel")
    near = n.op("Resize", x, "", n.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    n.output(n.op("Add", up, near), 1, 4, 10, 12)


@net(QDQ, opset=21)
def newest(n):
    x = n.op("HardSwish", n.conv(n.input(1, 6, 6, 3), 6, 8, pads=[1, 1, 1, 1]))
    x = n.op("ReduceMean", x, n.ints(-1, -2), keepdims=0)
    n.output(n.op("MatMul", x, n.constant(n.rng.normal(0, 1, (8, 5)).astype(np.float32))), 1, 5)


@net(QDQ)
def refused(n):
    """An operator that has no integer kernel."""
    x = n.conv(n.input(1, 3, 8, 8), 3, 6, strides=[2, 2])
    x = n.op("Elu", x)
    n.output(n.op("GlobalAveragePool", n.conv(x, 6, 4, kernel=1)), 1, 4, 1, 1)


class Pictures(CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def feeds(model, rng, count):
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return [{name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(count)]


def is_picture(shape):
    """Whether eyas takes an input as NHWC: few channels before the picture."""
    return len(shape) == 4 and shape[1] <= 4 and shape[3] > 4


def steps(path):
    """The scale of the last QuantizeLinear, or operator on codes, before each output."""
    model = onnx.load(path)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for output in model.graph.output:
        node = makers[output.name]
        while node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            node = makers[node.input[0]]
        found.append(float(values[node.input[1]]))
    return found


def quantize(model, settings, calibration, target):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        onnx.save(model, source)
        if settings is None:
            quantize_dynamic(source, target, weight_type=SIGNED, op_types_to_quantize=["Conv", "MatMul", "Gemm"])
        else:
            quantize_static(source, target, Pictures(calibration), **settings)


def main():
    for old in [*HERE.glob("*.onnx"), *HERE.glob("*.json")]:
        old.unlink()
    for name, (build, ways, opset) in NETS.items():
        n = Net(name, opset)
        build(n)
        model = n.model()
        calibration = feeds(model, np.random.default_rng(1), 8)
        (feed,) = feeds(model, np.random.default_rng(2), 1)
        for suffix, settings in ways:
            target = HERE / f"{name}_{suffix}.onnx"
            quantize(model, settings, calibration, target)
            session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
            answers = session.run(None, feed)
            tolerances = steps(target) if settings else [0.02 * float(np.ptp(a)) for a in answers]
            inputs = []
            for key, data in feed.items():
                data = data.transpose(0, 2, 3, 1) if is_picture(data.shape) else data
                inputs.append(dict(name=key, shape=data.shape, values=[round(float(v), 6) for v in data.flatten()]))
            outputs = [
                dict(name=o.name, shape=a.shape, step=step, values=[round(float(v), 6) for v in a.flatten()])
                for o, a, step in zip(session.get_outputs(), answers, tolerances, strict=True)
            ]
            target.with_suffix(".json").write_text(json.dumps(dict(inputs=inputs, outputs=outputs)) + "\n")
            kinds = sorted({node.op_type for node in onnx.load(target).graph.node})
            print(f"{target.name:32} {target.stat().st_size:6} bytes  {' '.join(kinds)}")


if __name__ == "__main__":
    main()

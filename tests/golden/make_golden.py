"""Makes the tiny models of this folder and stores LiteRT's answers beside them.

Run it without arguments; it rewrites every NAME.tflite and NAME.json. Weights and inputs are random, seeded by the
model's name.
"""

import json
from pathlib import Path

import numpy as np
from flatbuffers import flexbuffers

from builder import NONE, RELU, RELU6, RELU_N1_TO_1, SAME, VALID, options
from case import Case, convolution, window_size

import litert  # found through builder's path

HERE = Path(__file__).resolve().parent
MODELS = {}


def golden(function):
    """Registers a function `(Case) -> None` as a model with the function's name."""
    MODELS[function.__name__] = function
    return function


def one_convolution(case, dtype, shape, kernel, channels, **rest):
    low = -128 if dtype == np.int8 else 0
    quant = (0.02, low + int(case.rng.integers(60, 200)))
    activation = rest.get("activation", NONE)
    out = {NONE: (0.031, low + 120), RELU: (0.02, low), RELU6: (6 / 255, low), RELU_N1_TO_1: (2 / 255, low + 127)}[activation]
    out = rest.pop("out", out)
    quant = rest.pop("quant", quant)
    source = case.input(shape, dtype, *quant)
    target, _ = convolution(case, source, shape, dtype, quant, out, kernel, channels, **rest)
    case.b.graph.tensors[target].name = "output0"
    case.outputs.append(target)


CONVOLUTIONS = {
    "conv_1x1": dict(shape=(1, 5, 7, 16), kernel=(1, 1), channels=24, activation=RELU6),
    "conv_1x1_odd_channels": dict(shape=(1, 3, 3, 17), kernel=(1, 1), channels=33),
    "conv_1x1_stride2": dict(shape=(1, 7, 6, 8), kernel=(1, 1), channels=8, stride=2),
    "conv_3x3_first_layer": dict(shape=(1, 16, 16, 3), kernel=(3, 3), channels=8, stride=2, activation=RELU6),
    "conv_3x3_same": dict(shape=(1, 6, 9, 5), kernel=(3, 3), channels=7),
    "conv_3x3_valid": dict(shape=(1, 7, 8, 8), kernel=(3, 3), channels=6, padding=VALID, activation=RELU),
    "conv_3x3_stride2_even": dict(shape=(1, 8, 8, 4), kernel=(3, 3), channels=9, stride=2),
    "conv_3x3_dilated": dict(shape=(1, 9, 9, 4), kernel=(3, 3), channels=8, dilation=2),
    "conv_5x3_relu_n1_to_1": dict(shape=(1, 8, 7, 3), kernel=(5, 3), channels=4, activation=RELU_N1_TO_1),
    "conv_batch2": dict(shape=(2, 4, 4, 8), kernel=(3, 3), channels=8),
    "conv_relu6_half_bound": dict(shape=(1, 4, 4, 8), kernel=(1, 1), channels=8, activation=RELU6, out=(6 / 100.5, 10)),
    "dw_3x3": dict(shape=(1, 8, 7, 24), kernel=(3, 3), channels=1, depthwise=True, activation=RELU6),
    "dw_3x3_stride2": dict(shape=(1, 9, 8, 17), kernel=(3, 3), channels=1, depthwise=True, stride=2),
    "dw_3x3_valid_stride2": dict(shape=(1, 9, 9, 8), kernel=(3, 3), channels=1, depthwise=True, stride=2, padding=VALID),
    "dw_3x3_dilated": dict(shape=(1, 9, 9, 8), kernel=(3, 3), channels=1, depthwise=True, dilation=2),
    "dw_5x5": dict(shape=(1, 7, 9, 16), kernel=(5, 5), channels=1, depthwise=True, activation=RELU6),
    "dw_5x5_stride2": dict(shape=(1, 10, 10, 12), kernel=(5, 5), channels=1, depthwise=True, stride=2),
    "dw_multiplier2": dict(shape=(1, 6, 6, 9), kernel=(3, 3), channels=2, depthwise=True),
    "dw_multiplier8_of_1": dict(shape=(1, 10, 10, 1), kernel=(3, 3), channels=8, depthwise=True, stride=2, activation=RELU),
    "dw_3x3_small_picture": dict(shape=(1, 2, 1, 8), kernel=(3, 3), channels=1, depthwise=True),
}
for _name, _spec in CONVOLUTIONS.items():
    for _dtype in (np.int8, np.uint8):
        def _make(case, spec=_spec, dtype=_dtype):
            spec = dict(spec)
            if dtype == np.uint8:
                spec["weight_zero"] = int(case.rng.integers(60, 200))
            one_convolution(case, dtype, **spec)
        MODELS[f"{_name}_{np.dtype(_dtype).name}"] = _make


def for_both(function):
    """Registers the function once for each 8-bit type: `(case, dtype, low)`, `low` being the least code."""
    for dtype in (np.int8, np.uint8):
        def make(case, dtype=dtype):
            function(case, dtype, int(np.iinfo(dtype).min))
        MODELS[f"{function.__name__}_{np.dtype(dtype).name}"] = make
    return function


def simple(case, name, dtype, shape, quant, out_shape, out, table=None, version=2, extra=(), out_dtype=None):
    """One operator with one input, constants after it, one output."""
    source = case.input(shape, dtype, *(quant or ()))
    constants = [case.b.constant(data) for data in extra]
    target = case.output(out_shape, out_dtype or dtype, *(out or ()))
    case.b.operator(name, [source, *constants], [target], table, version)


@golden
def conv_weight_minimum_int8(case):
    """Weights and inputs that are all -128: products of 2^14 that two of do not fit 16 bits."""
    shape = (1, 3, 3, 32)
    source = case.input(shape, np.int8, 0.02, 127, data=np.full(shape, -128, np.int8))
    scale = np.full(8, 0.001, np.float32)
    weight = case.b.constant(np.full((8, 3, 3, 32), -128, np.int8), scale, 0, 0)
    bias = case.bias(8, np.float32(0.02) * scale)
    target = case.output((1, 3, 3, 8), np.int8, 2.0, -128)
    table = options("Conv2DOptions", padding=SAME, strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1)
    case.b.operator("CONV_2D", [source, weight, bias], [target], table, 3)


@for_both
def inverted_residual(case, dtype, low):
    """Expand, depthwise, project, add: with the sum, the projection and the block's input all read elsewhere."""
    relu6, linear = (6 / 255, low), (0.04, low + 131)
    source = case.input((1, 9, 11, 3), dtype, 0.02, low + 100)
    block, shape = convolution(case, source, (1, 9, 11, 3), dtype, (0.02, low + 100), linear, (1, 1), 8)
    x, wide = convolution(case, block, shape, dtype, linear, relu6, (1, 1), 20, activation=RELU6)
    x, wide = convolution(case, x, wide, dtype, relu6, relu6, (3, 3), 1, depthwise=True, activation=RELU6)
    project, shape = convolution(case, x, wide, dtype, relu6, linear, (1, 1), 8)
    total = case.b.tensor(shape, dtype, 0.06, low + 123)
    case.b.operator("ADD", [project, block], [total], options("AddOptions"), 2)
    x, wide = convolution(case, total, shape, dtype, (0.06, low + 123), relu6, (1, 1), 20, activation=RELU6)
    x, wide = convolution(case, x, wide, dtype, relu6, relu6, (3, 3), 1, depthwise=True, stride=2, activation=RELU6)
    last, _ = convolution(case, x, wide, dtype, relu6, linear, (1, 1), 8)
    case.outputs = [last, project, total]


@for_both
def concat_of_convolutions(case, dtype, low):
    """Branches written side by side, one of them also an output of the model."""
    quant = (0.04, low + 131)
    source = case.input((1, 5, 5, 8), dtype, 0.02, low + 100)
    branches = [convolution(case, source, (1, 5, 5, 8), dtype, (0.02, low + 100), quant, kernel, n)[0]
                for kernel, n in (((1, 1), 5), ((3, 3), 8))]
    joined = case.b.tensor((1, 5, 5, 13), dtype, *quant)
    case.b.operator("CONCATENATION", branches, [joined], options("ConcatenationOptions", axis=3), 2)
    last, _ = convolution(case, joined, (1, 5, 5, 13), dtype, quant, quant, (1, 1), 6)
    case.outputs = [last, branches[1]]


@for_both
def fully_connected(case, dtype, low):
    rows, depth, units = 3, 37, 19
    source = case.input((rows, depth), dtype, 0.02, low + 100)
    scale = np.float32(3.0 / (127 * np.sqrt(depth)))
    weight = case.b.constant(case.codes((units, depth), dtype), scale, 0 if dtype == np.int8 else 131)
    bias = case.bias(units, np.float32(0.02) * scale)
    target = case.output((rows, units), dtype, 0.03, low + 128)
    case.b.operator("FULLY_CONNECTED", [source, weight, bias], [target], options("FullyConnectedOptions"), 4)


def binary(case, dtype, name, kind, shape, other, a, b, out, activation=NONE, constant=False):
    left = case.input(shape, dtype, *a)
    right = case.b.constant(case.codes(other, dtype), *b) if constant else case.input(other, dtype, *b)
    target = case.output(np.broadcast_shapes(shape, other), dtype, *out)
    case.b.operator(name, [left, right], [target], options(kind, fusedActivationFunction=activation), 2)


@for_both
def add(case, dtype, low):
    binary(case, dtype, "ADD", "AddOptions", (1, 5, 5, 17), (1, 5, 5, 17), (0.0231, low + 90), (0.0391, low + 133), (0.0417, low + 120))


@for_both
def add_relu6(case, dtype, low):
    binary(case, dtype, "ADD", "AddOptions", (1, 4, 4, 16), (1, 4, 4, 16), (0.05, low + 90), (0.003, low + 5), (6 / 255, low), RELU6)


@for_both
def add_channel_constant(case, dtype, low):
    binary(case, dtype, "ADD", "AddOptions", (1, 4, 5, 9), (9,), (0.0231, low + 90), (0.0391, low + 133), (0.0417, low + 120), constant=True)


@for_both
def add_same_tensor(case, dtype, low):
    source = case.input((1, 4, 4, 8), dtype, 0.02, low + 77)
    target = case.output((1, 4, 4, 8), dtype, 0.04, low + 80)
    case.b.operator("ADD", [source, source], [target], options("AddOptions"), 2)


@for_both
def sub(case, dtype, low):
    binary(case, dtype, "SUB", "SubOptions", (1, 4, 4, 9), (1, 4, 4, 9), (0.0231, low + 90), (0.0391, low + 133), (0.0417, low + 120))


@for_both
def mul(case, dtype, low):
    binary(case, dtype, "MUL", "MulOptions", (1, 4, 4, 9), (1, 4, 4, 9), (0.0231, low + 90), (0.0391, low + 133), (0.07, low + 120))


@for_both
def mul_channel_constant(case, dtype, low):
    binary(case, dtype, "MUL", "MulOptions", (1, 4, 5, 9), (1, 1, 1, 9), (0.0231, low + 90), (0.0391, low + 133), (0.07, low + 120), RELU6, constant=True)


@for_both
def concat_channels(case, dtype, low):
    parts = [case.input((1, 4, 4, c), dtype, 0.05, low + 60) for c in (3, 8, 17)]
    target = case.output((1, 4, 4, 28), dtype, 0.05, low + 60)
    case.b.operator("CONCATENATION", parts, [target], options("ConcatenationOptions", axis=3), 2)


@for_both
def concat_rows(case, dtype, low):
    parts = [case.input((1, n, 6), dtype, 0.05, low + 60) for n in (7, 2, 1, 5, 3, 4)]
    target = case.output((1, 22, 6), dtype, 0.05, low + 60)
    case.b.operator("CONCATENATION", parts, [target], options("ConcatenationOptions", axis=1), 2)


@golden
def concat_rescaled_uint8(case):
    quants = [(0.05, 60), (0.031, 128), (0.0712, 17)]
    parts = [case.input((1, 4, 4, 8), np.uint8, *quant) for quant in quants]
    target = case.output((1, 4, 4, 24), np.uint8, *quants[0])
    case.b.operator("CONCATENATION", parts, [target], options("ConcatenationOptions", axis=3), 2)


@for_both
def pad(case, dtype, low):
    pads = np.array([[0, 0], [1, 2], [0, 1], [0, 3]], np.int32)
    simple(case, "PAD", dtype, (1, 4, 5, 5), (0.05, low + 60), (1, 7, 6, 8), (0.05, low + 60), options("PadOptions"), 2, [pads])


@for_both
def pad_then_conv(case, dtype, low):
    """The stride-2 pattern of Keras: PAD of one row and column, then a VALID convolution."""
    quant = (0.02, low + 30)
    source = case.input((1, 8, 8, 3), dtype, *quant)
    padded = case.b.tensor((1, 9, 9, 3), dtype, *quant)
    pads = case.b.constant(np.array([[0, 0], [0, 1], [0, 1], [0, 0]], np.int32))
    case.b.operator("PAD", [source, pads], [padded], options("PadOptions"), 2)
    target, _ = convolution(case, padded, (1, 9, 9, 3), dtype, quant, (6 / 255, low), (3, 3), 8, stride=2, padding=VALID, activation=RELU6)
    case.outputs.append(target)


def pool(case, dtype, low, name, window, stride, padding, size=9, activation=NONE):
    out = window_size((size, size), (window, window), stride, 1, padding)
    table = options("Pool2DOptions", padding=padding, strideW=stride, strideH=stride, filterWidth=window,
                    filterHeight=window, fusedActivationFunction=activation)
    quant = (0.05, low + 60)
    simple(case, name, dtype, (1, size, size, 9), quant, (1, *out, 9), quant, table)


@for_both
def avg_pool_global(case, dtype, low):
    pool(case, dtype, low, "AVERAGE_POOL_2D", 7, 1, VALID, size=7)


@for_both
def avg_pool_same(case, dtype, low):
    pool(case, dtype, low, "AVERAGE_POOL_2D", 2, 2, SAME, activation=RELU6)


@for_both
def max_pool(case, dtype, low):
    pool(case, dtype, low, "MAX_POOL_2D", 2, 2, VALID)


@for_both
def max_pool_same(case, dtype, low):
    pool(case, dtype, low, "MAX_POOL_2D", 3, 2, SAME)


@for_both
def mean(case, dtype, low):
    axes = np.array([1, 2], np.int32)
    simple(case, "MEAN", dtype, (1, 7, 7, 33), (0.0235, low), (1, 33), (0.0191, low), options("ReducerOptions", keepDims=False), 2, [axes])


@for_both
def mean_ties(case, dtype, low):
    axes = np.array([1, 2], np.int32)
    simple(case, "MEAN", dtype, (1, 2, 2, 64), (0.05, low + 61), (1, 1, 1, 64), (0.05, low + 61), options("ReducerOptions", keepDims=True), 2, [axes])


@for_both
def softmax(case, dtype, low):
    simple(case, "SOFTMAX", dtype, (3, 91), (0.11, low + 140), (3, 91), (1 / 256, low), options("SoftmaxOptions", beta=1.0))


@for_both
def logistic(case, dtype, low):
    data = np.arange(256).astype(np.uint8).view(dtype).reshape(1, 16, 16)
    source = case.input((1, 16, 16), dtype, 0.057, low + 200, data=data)
    target = case.output((1, 16, 16), dtype, 1 / 256, low)
    case.b.operator("LOGISTIC", [source], [target], None, 2)


@for_both
def relu6(case, dtype, low):
    simple(case, "RELU6", dtype, (1, 4, 4, 16), (0.041, low + 60), (1, 4, 4, 16), (6 / 255, low), None)


@for_both
def relu(case, dtype, low):
    simple(case, "RELU", dtype, (1, 4, 4, 16), (0.041, low + 60), (1, 4, 4, 16), (0.041, low + 60), None)


@for_both
def hard_swish(case, dtype, low):
    data = np.arange(256).astype(np.uint8).view(dtype).reshape(1, 4, 4, 16)
    source = case.input((1, 4, 4, 16), dtype, 0.041, low + 120, data=data)
    target = case.output((1, 4, 4, 16), dtype, 0.023, low + 17)
    case.b.operator("HARD_SWISH", [source], [target], None, 1)


def resize(case, dtype, low, name, align=False, half=False, size=(7, 10)):
    kind = {"RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions", "RESIZE_BILINEAR": "ResizeBilinearOptions"}[name]
    table = options(kind, alignCorners=align, halfPixelCenters=half)
    quant = (0.05, low + 60)
    simple(case, name, dtype, (1, 4, 5, 6), quant, (1, *size, 6), quant, table, 3, [np.array(size, np.int32)])


for _op, _short in (("RESIZE_NEAREST_NEIGHBOR", "resize_nearest"), ("RESIZE_BILINEAR", "resize_bilinear")):
    for _mode, _fields in (("", {}), ("_align_corners", dict(align=True)), ("_half_pixel", dict(half=True))):
        def _resize(case, dtype, low, op=_op, fields=_fields):
            resize(case, dtype, low, op, **fields)
        _resize.__name__ = _short + _mode
        for_both(_resize)


@for_both
def quantize_float(case, dtype, low):
    data = case.rng.normal(0, 2.5, (1, 6, 6, 9)).astype(np.float32)
    data.reshape(-1)[:40] = (np.arange(40) - 20 + 0.5) * np.float32(0.037)
    source = case.input(data.shape, np.float32, data=data)
    target = case.output(data.shape, dtype, 0.037, low + 110)
    case.b.operator("QUANTIZE", [source], [target], options("QuantizeOptions"), 1)


@for_both
def quantize_rescale(case, dtype, low):
    data = np.arange(256).astype(np.uint8).view(dtype).reshape(1, 4, 4, 16)
    source = case.input(data.shape, dtype, 0.041, low + 120, data=data)
    target = case.output(data.shape, dtype, 0.0723, low + 17)
    case.b.operator("QUANTIZE", [source], [target], options("QuantizeOptions"), 2)


@for_both
def quantize_change_type(case, dtype, low):
    other = np.uint8 if dtype == np.int8 else np.int8
    data = np.arange(256).astype(np.uint8).view(dtype).reshape(1, 4, 4, 16)
    source = case.input(data.shape, dtype, 0.041, low + 127, data=data)
    target = case.output(data.shape, other, 0.041, int(np.iinfo(other).min) + 127)
    case.b.operator("QUANTIZE", [source], [target], options("QuantizeOptions"), 2)


@for_both
def quantize_change_type_and_scale(case, dtype, low):
    other = np.uint8 if dtype == np.int8 else np.int8
    data = np.arange(256).astype(np.uint8).view(dtype).reshape(1, 4, 4, 16)
    source = case.input(data.shape, dtype, 0.041, low + 120, data=data)
    target = case.output(data.shape, other, 0.0723, int(np.iinfo(other).min) + 17)
    case.b.operator("QUANTIZE", [source], [target], options("QuantizeOptions"), 2)
    case.tolerance = 1


@for_both
def dequantize(case, dtype, low):
    simple(case, "DEQUANTIZE", dtype, (1, 4, 4, 9), (0.0371, low + 61), (1, 4, 4, 9), None, options("DequantizeOptions"), 2, out_dtype=np.float32)


@for_both
def pack(case, dtype, low):
    parts = [case.input((1, 3, 1, 5), dtype, 0.05, low + 60) for _ in range(2)]
    target = case.output((1, 3, 2, 1, 5), dtype, 0.05, low + 60)
    case.b.operator("PACK", parts, [target], options("PackOptions", valuesCount=2, axis=2), 2)


@for_both
def upsample_by_pack(case, dtype, low):
    """The nearest-neighbour upsampling of FPN models: two PACKs and a RESHAPE."""
    quant = (0.05, low + 60)
    source = case.input((1, 3, 4, 8), dtype, *quant)
    columns = case.b.tensor((1, 3, 4, 2, 8), dtype, *quant)
    rows = case.b.tensor((1, 3, 2, 4, 2, 8), dtype, *quant)
    case.b.operator("PACK", [source, source], [columns], options("PackOptions", valuesCount=2, axis=3), 2)
    case.b.operator("PACK", [columns, columns], [rows], options("PackOptions", valuesCount=2, axis=2), 2)
    target = case.output((1, 6, 8, 8), dtype, *quant)
    shape = np.array([1, 6, 8, 8], np.int32)
    case.b.operator("RESHAPE", [rows, case.b.constant(shape)], [target], options("ReshapeOptions", newShape=list(shape)))


@for_both
def split(case, dtype, low):
    quant = (0.05, low + 60)
    axis = case.b.constant(np.array(3, np.int32))
    source = case.input((1, 3, 3, 12), dtype, *quant)
    parts = [case.output((1, 3, 3, 4), dtype, *quant) for _ in range(3)]
    case.b.operator("SPLIT", [axis, source], parts, options("SplitOptions", numSplits=3), 2)


@for_both
def strided_slice(case, dtype, low):
    ends = [np.array(v, np.int32) for v in ([0, 1, 0, 2], [1, 7, 6, 9], [1, 2, 1, 3])]
    simple(case, "STRIDED_SLICE", dtype, (1, 7, 6, 9), (0.05, low + 60), (1, 3, 6, 3), (0.05, low + 60), options("StridedSliceOptions"), 2, ends)


@for_both
def transpose(case, dtype, low):
    order = np.array([0, 3, 1, 2], np.int32)
    simple(case, "TRANSPOSE", dtype, (1, 4, 5, 6), (0.05, low + 60), (1, 6, 4, 5), (0.05, low + 60), options("TransposeOptions"), 2, [order])


@for_both
def arg_max(case, dtype, low):
    simple(case, "ARG_MAX", dtype, (1, 5, 5, 21), (0.05, low + 60), (1, 5, 5), None, options("ArgMaxOptions", outputType=2), 2,
           [np.array(3, np.int32)], out_dtype=np.int32)


def post_process(case, boxes, scores, anchors, classes, *, regular, detections=10, anchor_quant=None):
    """TFLite_Detection_PostProcess; outputs in the TF2 order: scores, boxes, count, classes."""
    if anchor_quant is None:
        anchor = case.b.constant(anchors.astype(np.float32))
    else:
        scale, zero = anchor_quant
        anchor = case.b.constant(np.clip(np.rint(anchors / scale) + zero, 0, 255).astype(np.uint8), scale, zero)
    settings = flexbuffers.Builder()
    with settings.Map():
        for key, value in dict(max_detections=detections, max_classes_per_detection=1, detections_per_class=5,
                               num_classes=classes).items():
            settings.Key(key)
            settings.Int(value)
        settings.Key("use_regular_nms")
        settings.Bool(regular)
        for key, value in dict(nms_score_threshold=0.3, nms_iou_threshold=0.6, y_scale=10.0, x_scale=10.0,
                               h_scale=5.0, w_scale=5.0).items():
            settings.Key(key)
            settings.Float(value)
    order = {
        "scores": case.b.tensor((1, detections), np.float32, name="scores"),
        "boxes": case.b.tensor((1, detections, 4), np.float32, name="boxes"),
        "count": case.b.tensor((1,), np.float32, name="count"),
        "classes": case.b.tensor((1, detections), np.float32, name="classes"),
    }
    made = [order[key] for key in ("boxes", "classes", "scores", "count")]
    case.b.operator("TFLite_Detection_PostProcess", [boxes, scores, anchor], made, custom_options=bytes(settings.Finish()))
    case.outputs = list(order.values())
    case.compare = "detections"
    case.tolerance = 1e-5


def grid_anchors(sizes, per_cell):
    """Anchors (y, x, height, width) on grids of the given sizes."""
    rows = []
    for size in sizes:
        for y in range(size):
            for x in range(size):
                for k in range(per_cell):
                    rows.append([(y + 0.5) / size, (x + 0.5) / size, (0.8 + 0.5 * k) / size, (1.4 - 0.3 * k) / size])
    return np.array(rows, np.float32)


def detection_head(case, dtype, regular, classes=4):
    anchors = grid_anchors([5, 2], 2)
    count = len(anchors)
    low = int(np.iinfo(dtype).min)
    boxes = case.input((1, count, 4), dtype, 0.05, low + 128)
    data = (case.rng.beta(0.4, 2.0, (1, count, classes + 1)) * 255).astype(np.uint8)
    data = data if dtype == np.uint8 else (data.astype(np.int16) - 128).astype(np.int8)
    scores = case.input(data.shape, dtype, 1 / 256, low, data=data)
    if dtype == np.int8:
        real = [case.b.tensor((1, count, n), np.float32) for n in (4, classes + 1)]
        for codes, values in zip((boxes, scores), real):
            case.b.operator("DEQUANTIZE", [codes], [values], options("DequantizeOptions"), 2)
        post_process(case, *real, anchors, classes, regular=regular)
    else:
        post_process(case, boxes, scores, anchors, classes, regular=regular, anchor_quant=(0.0065, 3))


@golden
def post_process_fast_int8(case):
    detection_head(case, np.int8, False)


@golden
def post_process_regular_int8(case):
    detection_head(case, np.int8, True)


@golden
def post_process_fast_uint8(case):
    detection_head(case, np.uint8, False)


@golden
def post_process_regular_uint8(case):
    detection_head(case, np.uint8, True)


def hybrid(case, real_weights):
    """Two convolutions on real values, with int8 weights, or with the same weights as real values."""
    def weights(shape, axis, fan_in):
        codes = case.codes(shape, np.int8)
        scale = (3 / (127 * np.sqrt(fan_in)) * case.rng.uniform(0.5, 1.5, shape[axis])).astype(np.float32)
        if real_weights:
            broadcast = [1] * 4
            broadcast[axis] = -1
            return case.b.constant(codes.astype(np.float32) * scale.reshape(broadcast))
        return case.b.constant(codes, scale, 0, axis)

    fields = dict(padding=SAME, strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1, fusedActivationFunction=RELU6)
    source = case.input((1, 6, 6, 8), np.float32)
    middle = case.b.tensor((1, 6, 6, 12), np.float32)
    bias = [case.b.constant(case.rng.normal(0, 0.5, 12).astype(np.float32)) for _ in range(2)]
    case.b.operator("CONV_2D", [source, weights((12, 1, 1, 8), 0, 8), bias[0]], [middle], options("Conv2DOptions", **fields), 5)
    target = case.output((1, 6, 6, 12), np.float32)
    table = options("DepthwiseConv2DOptions", depthMultiplier=1, **fields)
    case.b.operator("DEPTHWISE_CONV_2D", [middle, weights((1, 3, 3, 12), 3, 9), bias[1]], [target], table, 6)


@golden
def hybrid_convolutions(case):
    """int8 weights on real values. LiteRT quantizes the inputs on the fly."""
    hybrid(case, False)
    twin = Case(case.name)
    hybrid(twin, True)
    case.twin = twin


@golden
def tiny_ssd(case):
    """A whole detector: first layer, inverted residual, two feature maps, heads, sigmoid, NMS."""
    case.rng = np.random.default_rng(24)  # a seed whose detections have three classes
    low, i8 = -128, np.int8
    relu6, linear = (6 / 255, low), (0.04, 3)
    pixels = case.input((1, 32, 32, 3), np.uint8, 1 / 127.5, 127)
    x = case.b.tensor((1, 32, 32, 3), i8, 1 / 127.5, -1)
    case.b.operator("QUANTIZE", [pixels], [x], options("QuantizeOptions"), 2)
    x, shape = convolution(case, x, (1, 32, 32, 3), i8, (1 / 127.5, -1), relu6, (3, 3), 8, stride=2, activation=RELU6)
    x, shape = convolution(case, x, shape, i8, relu6, relu6, (3, 3), 1, depthwise=True, stride=2, activation=RELU6)
    block, shape = convolution(case, x, shape, i8, relu6, linear, (1, 1), 8)
    x, wide = convolution(case, block, shape, i8, linear, relu6, (1, 1), 24, activation=RELU6)
    x, wide = convolution(case, x, wide, i8, relu6, relu6, (3, 3), 1, depthwise=True, activation=RELU6)
    x, shape = convolution(case, x, wide, i8, relu6, linear, (1, 1), 8)
    fine = case.b.tensor(shape, i8, 0.06, -5)
    case.b.operator("ADD", [block, x], [fine], options("AddOptions"), 2)
    x, coarse_shape = convolution(case, fine, shape, i8, (0.06, -5), relu6, (1, 1), 16, activation=RELU6)
    coarse, coarse_shape = convolution(case, x, coarse_shape, i8, relu6, relu6, (3, 3), 1, depthwise=True, stride=2, activation=RELU6)
    classes, per_cell = 3, 2
    maps = [(fine, shape, (0.06, -5)), (coarse, coarse_shape, relu6)]
    joined = []
    for depth, quant in ((4, (0.05, 2)), (classes + 1, (0.04, 10))):
        parts, total = [], 0
        for source, source_shape, source_quant in maps:
            head, head_shape = convolution(case, source, source_shape, i8, source_quant, quant, (1, 1), per_cell * depth, gain=0.6)
            count = head_shape[1] * head_shape[2] * per_cell
            flat = case.b.tensor((1, count, depth), i8, *quant)
            new_shape = case.b.constant(np.array([1, count, depth], np.int32))
            case.b.operator("RESHAPE", [head, new_shape], [flat], options("ReshapeOptions", newShape=[1, count, depth]))
            parts.append(flat)
            total += count
        whole = case.b.tensor((1, total, depth), i8, *quant)
        case.b.operator("CONCATENATION", parts, [whole], options("ConcatenationOptions", axis=1), 2)
        joined.append((whole, total, quant))
    (boxes, total, _), (logits, _, _) = joined
    scores = case.b.tensor((1, total, classes + 1), i8, 1 / 256, low)
    case.b.operator("LOGISTIC", [logits], [scores], None, 2)
    real = [case.b.tensor((1, total, n), np.float32) for n in (4, classes + 1)]
    for codes, values in zip((boxes, scores), real):
        case.b.operator("DEQUANTIZE", [codes], [values], options("DequantizeOptions"), 2)
    post_process(case, *real, grid_anchors([8, 4], per_cell), classes, regular=False)


def describe(index, case, data):
    tensor = case.b.graph.tensors[index]
    return {"name": tensor.name, "shape": list(np.shape(data)), "dtype": data.dtype.name}


def numbers(data):
    """A flat list; reals as the shortest text that gives the same f32."""
    if data.dtype == np.float32:
        return [float(str(value)) for value in data.reshape(-1)]
    return data.reshape(-1).tolist()


def finish(case):
    """Writes the model and its answers; returns the bytes written."""
    content = case.b.finish(case.inputs, case.outputs)
    inputs = [case.input_data[index] for index in case.inputs]
    default, reference = litert.run(content, inputs), litert.run(content, inputs, "reference")
    if case.twin:
        exact = litert.run(case.twin.b.finish(case.twin.inputs, case.twin.outputs), inputs)
        case.tolerance = round(1.01 * max(float(np.abs(a - b).max()) for a, b in zip(exact, default)), 6)
    record = {
        "compare": case.compare,
        "tolerance": case.tolerance,
        "inputs": [describe(i, case, data) | {"values": numbers(data)} for i, data in zip(case.inputs, inputs)],
        "outputs": [],
    }
    for index, ours, theirs in zip(case.outputs, default, reference):
        entry = describe(index, case, ours) | {"default": numbers(ours)}
        if not np.array_equal(ours, theirs):
            entry["reference"] = numbers(theirs)
        record["outputs"].append(entry)
    (HERE / f"{case.name}.tflite").write_bytes(content)
    text = json.dumps(record, separators=(",", ":")) + "\n"
    (HERE / f"{case.name}.json").write_text(text)
    return len(content) + len(text), default, reference


def main():
    for old in [*HERE.glob("*.tflite"), *HERE.glob("*.json")]:
        old.unlink()
    total = 0
    for name, make in sorted(MODELS.items()):
        case = Case(name)
        if not case.outputs:
            make(case)
        size, default, reference = finish(case)
        total += size
        distances = [float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()) for a, b in zip(default, reference)]
        spread = [len(np.unique(a)) for a in default]
        print(f"{name:45} {size:7} bytes  default-reference {max(distances):g}  distinct values {spread}")
    print(f"{len(MODELS)} models, {total} bytes")


if __name__ == "__main__":
    main()

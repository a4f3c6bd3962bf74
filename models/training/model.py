"""SSDLite on a small MobileNetV2: 288x288x3 in, box codes and class logits of every anchor out.

`network` walks the table of blocks once and asks its caller to carry out each convolution and each addition, so training
(with batch normalization), the folded network and the fake-quantized one share a single description. Inverted residuals
and SSDLite heads: Sandler et al., MobileNetV2, arXiv:1801.04381.
"""

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

CLASSES = ("qr_code", "data_matrix", "aztec", "pdf417", "barcode", "marker")
INPUT_SIZE = 288
EPSILON = 1e-3
PRIOR = 0.01

STEM = 16
# (channels after expansion, channels out, stride); the first block has no expansion.
BLOCKS = (
    (16, 8, 1),
    (24, 16, 2),
    (40, 24, 2), (96, 24, 1), (96, 24, 1),
    (96, 40, 2), (160, 40, 1), (120, 40, 1),
    (192, 64, 2), (256, 64, 1), (256, 64, 1),
    (256, 96, 2), (384, 96, 1),
)
LAST = 256
EXTRA = (96, 192)


@dataclass(frozen=True)
class Level:
    """One feature map with anchors: rows and columns, scale as a share of the picture, aspects as width / height.
    `between` adds a square anchor at the geometric mean of this scale and the next level's."""
    cells: int
    scale: float
    aspects: tuple
    between: bool

    @property
    def anchors(self):
        return len(self.aspects) + self.between


LEVELS = (
    Level(36, 0.08, (1, 2, 1 / 2), False),
    Level(18, 0.18, (1, 2, 1 / 2, 3, 1 / 3), True),
    Level(9, 0.36, (1, 2, 1 / 2, 3, 1 / 3), True),
    Level(5, 0.62, (1, 2, 1 / 2, 3, 1 / 3), True),
    Level(3, 0.92, (1, 2, 1 / 2, 3, 1 / 3), True),
)


@dataclass(frozen=True)
class Conv:
    """A convolution with SAME padding. A head ("codes" or "logits") has a bias and no normalization; every other
    layer is normalized; `relu6` says whether an activation follows."""
    name: str
    channels: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    relu6: bool = True
    head: str = ""

    def kernel_shape(self, inputs):
        return (self.kernel, self.kernel, inputs, 1 if self.depthwise else self.channels)


def network(x, conv, add):
    """Box codes [n, anchors, 4] (ty, tx, th, tw) and logits [n, anchors, classes] of pictures in -1..1.
    `conv(layer, x)` carries out a layer, `add(name, a, b)` a residual addition."""
    features = []
    x = conv(Conv("stem", STEM, kernel=3, stride=2), x)
    channels = STEM
    for number, (expanded, out, stride) in enumerate(BLOCKS):
        name, shortcut = f"block{number}", x
        if number > 0:
            x = conv(Conv(f"{name}/expand", expanded), x)
        if stride == 2 and number > 2:
            features.append(x)
        x = conv(Conv(f"{name}/depthwise", expanded, kernel=3, stride=stride, depthwise=True), x)
        x = conv(Conv(f"{name}/project", out, relu6=False), x)
        if stride == 1 and channels == out:
            x = add(f"{name}/add", shortcut, x)
        channels = out
    x = conv(Conv("last", LAST), x)
    features.append(x)
    x = conv(Conv("extra/expand", EXTRA[0]), x)
    x = conv(Conv("extra/depthwise", EXTRA[0], kernel=3, stride=2, depthwise=True), x)
    x = conv(Conv("extra/project", EXTRA[1]), x)
    features.append(x)
    return heads(features, conv)


def heads(features, conv):
    """One depthwise layer a level, then a 1x1 layer for codes and one for logits, concatenated over levels."""
    columns = {"codes": 4, "logits": len(CLASSES)}
    parts = {head: [] for head in columns}
    for feature, level in zip(features, LEVELS):
        name = f"head{level.cells}"
        shared = conv(Conv(f"{name}/depthwise", feature.shape[-1], kernel=3, depthwise=True), feature)
        for head, width in columns.items():
            x = conv(Conv(f"{name}/{head}", level.anchors * width, relu6=False, head=head), shared)
            parts[head].append(tf.reshape(x, [-1, level.cells * level.cells * level.anchors, width]))
    return tf.concat(parts["codes"], axis=1), tf.concat(parts["logits"], axis=1)


def anchors():
    """Anchors as float32 [anchors, 4]: centre y, centre x, height, width, as shares of the picture; in the order of
    `network`: level, row, column, shape."""
    rows = []
    for index, level in enumerate(LEVELS):
        following = LEVELS[index + 1].scale if index + 1 < len(LEVELS) else 1.0
        shapes = [(level.scale / math.sqrt(a), level.scale * math.sqrt(a)) for a in level.aspects]
        if level.between:
            shapes.append((math.sqrt(level.scale * following),) * 2)
        centres = (np.arange(level.cells) + 0.5) / level.cells
        for y in centres:
            for x in centres:
                rows += [(y, x, height, width) for height, width in shapes]
    return np.array(rows, np.float32)


def convolve(layer, x, kernel):
    strides = [1, layer.stride, layer.stride, 1]
    if layer.depthwise:
        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME")
    return tf.nn.conv2d(x, kernel, strides, "SAME")


def normalize_input(images):
    """uint8 0..255 to float32 -1..1 (exactly 0 at 127.5, as the quantized input stands for it)."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


class Detector(tf.Module):
    """The trainable network: kernels, batch normalization, head biases, under stable names in `values`."""

    def __init__(self, seed=1):
        super().__init__()
        self.values = {}
        self.layers = []
        self._random = np.random.default_rng(seed)
        network(tf.zeros([1, INPUT_SIZE, INPUT_SIZE, 3]), self._create, lambda name, a, b: a + b)

    def _create(self, layer, x):
        shape = layer.kernel_shape(x.shape[-1])
        fan_in = shape[0] * shape[1] * (1 if layer.depthwise else shape[2])
        deviation = 0.01 if layer.head else math.sqrt(2 / fan_in)
        kernel = self._random.normal(0, deviation, shape).astype(np.float32)
        self._variable(f"{layer.name}/kernel", kernel)
        channels = layer.channels
        if layer.head:
            start = math.log(PRIOR / (1 - PRIOR)) if layer.head == "logits" else 0.0
            self._variable(f"{layer.name}/bias", np.full(channels, start, np.float32))
        else:
            self._variable(f"{layer.name}/gamma", np.ones(channels, np.float32))
            self._variable(f"{layer.name}/beta", np.zeros(channels, np.float32))
            self._variable(f"{layer.name}/mean", np.zeros(channels, np.float32), trainable=False)
            self._variable(f"{layer.name}/variance", np.ones(channels, np.float32), trainable=False)
        self.layers.append(layer)
        return convolve(layer, x, kernel)

    def _variable(self, name, value, trainable=True):
        self.values[name] = tf.Variable(value, trainable=trainable, name=name.replace("/", "_"))

    def adopt(self, folded):
        """Takes over folded weights. Channel by channel a kernel gets the size of a fresh one, its gamma the rest; where
        it is zero, the fresh one stays under a gamma of zero."""
        for layer in self.layers:
            kernel, bias = (folded[f"{layer.name}/{part}"] for part in ("kernel", "bias"))
            if layer.head:
                self.values[f"{layer.name}/kernel"].assign(kernel)
                self.values[f"{layer.name}/bias"].assign(bias)
                continue
            axes = (0, 1, 3) if layer.depthwise else (0, 1, 2)
            size = np.sqrt(np.mean(kernel ** 2, axis=axes, keepdims=True))
            fresh = math.sqrt(2 / np.prod([kernel.shape[axis] for axis in axes]))
            drawn = self.values[f"{layer.name}/kernel"].numpy()
            scaled = kernel * fresh / np.maximum(size, 1e-12)
            self.values[f"{layer.name}/kernel"].assign(np.where(size > 0, scaled, drawn))
            self.values[f"{layer.name}/gamma"].assign(size.ravel() / fresh)
            self.values[f"{layer.name}/beta"].assign(bias)
            self.values[f"{layer.name}/mean"].assign(np.zeros(layer.channels, np.float32))
            self.values[f"{layer.name}/variance"].assign(np.full(layer.channels, 1 - EPSILON, np.float32))

    def train_folded(self, images):
        """Codes and logits with the stored statistics, which stand still: about half the time of `train`."""
        return infer(fold(self.values), normalize_input(images))

    def train(self, images, momentum=0.99):
        """Codes and logits with the batch's own statistics, which also move the stored ones."""
        values = self.values

        def conv(layer, x):
            x = convolve(layer, x, values[f"{layer.name}/kernel"])
            if layer.head:
                return x + values[f"{layer.name}/bias"]
            x, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                x, values[f"{layer.name}/gamma"], values[f"{layer.name}/beta"], epsilon=EPSILON)
            for statistic, new in (("mean", mean), ("variance", variance)):
                stored = values[f"{layer.name}/{statistic}"]
                stored.assign_add((1 - momentum) * (new - stored))
            return tf.nn.relu6(x) if layer.relu6 else x

        return network(normalize_input(images), conv, lambda name, a, b: a + b)


def fold(values):
    """Kernels and biases with batch normalization folded in, under `NAME/kernel` and `NAME/bias`."""
    folded = {}
    for name in (key[:-len("/kernel")] for key in values if key.endswith("/kernel")):
        kernel = values[f"{name}/kernel"]
        if f"{name}/bias" in values:
            folded[f"{name}/kernel"], folded[f"{name}/bias"] = kernel, values[f"{name}/bias"]
            continue
        gain = values[f"{name}/gamma"] * (values[f"{name}/variance"] + EPSILON) ** -0.5
        by_channel = gain[:, None] if kernel.shape[3] == 1 and kernel.shape[2] == gain.shape[0] else gain
        folded[f"{name}/kernel"] = kernel * by_channel
        folded[f"{name}/bias"] = values[f"{name}/beta"] - values[f"{name}/mean"] * gain
    return folded


def infer(values, x):
    """Codes and logits of pictures in -1..1 from folded values (arrays or variables)."""

    def conv(layer, x):
        x = tf.nn.bias_add(convolve(layer, x, values[f"{layer.name}/kernel"]), values[f"{layer.name}/bias"])
        return tf.nn.relu6(x) if layer.relu6 else x

    return network(x, conv, lambda name, a, b: a + b)


def infer_normalized(values, x):
    """As `infer`, from unfolded values with their stored statistics."""

    def conv(layer, x):
        x = convolve(layer, x, values[f"{layer.name}/kernel"])
        if layer.head:
            return x + values[f"{layer.name}/bias"]
        x = tf.nn.batch_normalization(x, *(values[f"{layer.name}/{part}"]
                                           for part in ("mean", "variance", "beta", "gamma")), EPSILON)
        return tf.nn.relu6(x) if layer.relu6 else x

    return network(x, conv, lambda name, a, b: a + b)


def print_cost():
    """A line for each layer: shape out, parameters, millions of multiply-accumulates."""
    total = parameters = 0

    def conv(layer, x):
        nonlocal total, parameters
        shape = layer.kernel_shape(x.shape[-1])
        size = -(-x.shape[1] // layer.stride)
        weights = math.prod(shape)
        cost = size * size * weights
        total, parameters = total + cost, parameters + weights + layer.channels
        print(f"{layer.name:24} {size:4} x {size:3} x {layer.channels:4} {weights:8} {cost / 1e6:7.2f}")
        return tf.zeros([1, size, size, layer.channels])

    network(tf.zeros([1, INPUT_SIZE, INPUT_SIZE, 3]), conv, lambda name, a, b: a)
    print(f"{parameters} parameters, {total / 1e6:.1f} MMAC, {len(anchors())} anchors")


if __name__ == "__main__":
    print_cost()

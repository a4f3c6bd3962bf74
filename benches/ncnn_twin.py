"""Writes MobileNetV2 1.0 at 224x224 with 8-bit layers as ncnn's `.param`.

ncnn imports no .tflite file, and its published 8-bit MobileNets are other networks. This is the network of
tf2_mobilenet_v2_1.0_224_ptq.tflite, layer by layer, without weights: `peers.py` runs it with zeros, as ncnn's own
benchmark does. A layer that only convolutions read hands on codes, as ncnn2int8 arranges it; others hand on reals.
"""

import sys
from pathlib import Path

SIDE, CLASSES = 224, 1001
# Expansion, channels, repetitions, stride of the first: table 2 of the MobileNetV2 paper.
BLOCKS = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
RELU6 = "9=3 -23310=2,0.0,6.0"
SAME = -233


class Net:
    """Layers in order; each method adds one and returns the name of what it makes."""

    def __init__(self):
        self.lines, self.values = [f"Input data 0 1 data 0={SIDE} 1={SIDE} 2=3"], 1

    def add(self, kind, inputs, parameters="", outputs=1):
        name = f"{kind.lower()}_{len(self.lines)}"
        made = [name] if outputs == 1 else [f"{name}_{number}" for number in range(outputs)]
        self.lines.append(" ".join([kind, name, str(len(inputs)), str(outputs), *inputs, *made, parameters]))
        self.values += outputs
        return made[0] if outputs == 1 else made

    def convolution(self, value, depth, channels, kernel, stride, activation, gives_codes):
        parameters = f"0={channels} 1={kernel} 3={stride} 4={SAME} 5=1 6={depth * channels * kernel**2}"
        return self.add("Convolution", [value], f"{parameters} 8={102 if gives_codes else 2} {activation}")

    def depthwise(self, value, channels, stride):
        parameters = f"0={channels} 1=3 3={stride} 4={SAME} 5=1 6={9 * channels} 7={channels} 8=101"
        return self.add("ConvolutionDepthWise", [value], f"{parameters} {RELU6}")

    def text(self):
        return "\n".join(["7767517", f"{len(self.lines)} {self.values}", *self.lines]) + "\n"


def shapes():
    """Expansion, channels in, channels out, stride, whether the input is added to the output, of each block."""
    depth = 32
    for expansion, channels, count, first_stride in BLOCKS:
        for number in range(count):
            yield expansion, depth, channels, first_stride if number == 0 else 1, number > 0
            depth = channels


def mobilenet_v2():
    net, blocks = Net(), list(shapes())
    value = net.convolution("data", 3, 32, 3, 2, RELU6, True)
    for number, (expansion, depth, channels, stride, is_added) in enumerate(blocks):
        value, kept = net.add("Split", [value], outputs=2) if is_added else (value, None)
        if expansion > 1:
            value = net.convolution(value, depth, depth * expansion, 1, 1, RELU6, True)
        value = net.depthwise(value, depth * expansion, stride)
        next_is_added = number + 1 < len(blocks) and blocks[number + 1][4]
        value = net.convolution(value, depth * expansion, channels, 1, 1, "", not (is_added or next_is_added))
        value = net.add("BinaryOp", [value, kept], "0=0") if is_added else value
    value = net.convolution(value, 320, 1280, 1, 1, RELU6, False)
    value = net.add("Pooling", [value], "0=1 4=1")
    value = net.add("InnerProduct", [value], f"0={CLASSES} 1=1 2={1280 * CLASSES} 8=2")
    net.add("Softmax", [value], "0=0 1=1")
    return net.text()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: ncnn_twin.py FILE.param")
    Path(sys.argv[1]).write_text(mobilenet_v2())

"""Makes the small demonstration: `colours.tflite`, a detector of red, green and blue discs whose weights are set by
hand, its label file, and the pictures of `scene/`.

The network: how much redder, greener, bluer than grey each pixel is (a 1x1 convolution), averages over 4x4 pixels, then
for three sizes the mean inside a disc less the mean of the ring around it (a 17x17 convolution), a sigmoid, and
detection post-processing with one square anchor for each size and cell.
"""

import math
import sys
from pathlib import Path

import numpy as np
from flatbuffers import flexbuffers
from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "golden"))
from builder import NONE, RELU, SAME, VALID, Builder, options  # noqa: E402

HEIGHT, WIDTH, STRIDE = 120, 160, 4
RADII = [12.0, 18.0, 26.0]  # pixels of the model's input
NAMES = ["red", "green", "blue"]
KERNEL = 17
EXCESS = 1 / 255  # scale of the excess of a colour, zero point -128
SCORE = 0.05  # scale of the logits, zero point 0


def quantized(b, weights, in_scale, axis):
    """Symmetric int8 weights with a scale for each output channel, and those scales."""
    largest = np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis))
    scales = np.maximum(largest, 1e-3) / 127
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    codes = np.rint(weights / scales.reshape(shape)).astype(np.int8)
    return b.constant(codes, scales, 0, axis), scales * in_scale


def convolve(b, x, x_scale, weights, bias, out, padding, activation):
    w, scales = quantized(b, weights, x_scale, 0)
    codes = np.rint(np.asarray(bias) / scales).astype(np.int32)
    biases = b.constant(codes, scales, 0, 0)
    table = options("Conv2DOptions", padding=padding, strideW=1, strideH=1, dilationWFactor=1,
                    dilationHFactor=1, fusedActivationFunction=activation)
    b.operator("CONV_2D", [x, w, biases], [out], table, 3)


def disc_kernel(radius):
    """+1 over the area of the disc, -1 over a ring twice as far: its answer to a flat picture is 0."""
    at = (np.arange(KERNEL) - KERNEL // 2) * STRIDE
    distance = np.hypot(*np.meshgrid(at, at))
    inside = distance <= radius
    ring = ~inside & (distance <= radius * 1.5)
    return inside / inside.sum() - ring / ring.sum()


def model():
    b = Builder("eyas demonstration: red, green and blue discs; weights set by hand")
    pixels = b.tensor((1, HEIGHT, WIDTH, 3), np.uint8, 1 / 255, 0, name="picture")
    x = b.tensor((1, HEIGHT, WIDTH, 3), np.int8, 1 / 255, -128)
    b.operator("QUANTIZE", [pixels], [x], options("QuantizeOptions"), 2)

    excess = b.tensor((1, HEIGHT, WIDTH, 3), np.int8, EXCESS, -128)
    mix = np.full((3, 1, 1, 3), -0.6)
    for colour in range(3):
        mix[colour, 0, 0, colour] = 1.0
    convolve(b, x, 1 / 255, mix, [0, 0, 0], excess, SAME, RELU)

    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
    cells = b.tensor((1, rows, columns, 3), np.int8, EXCESS, -128)
    pool = options("Pool2DOptions", padding=VALID, strideW=STRIDE, strideH=STRIDE, filterWidth=STRIDE,
                   filterHeight=STRIDE, fusedActivationFunction=NONE)
    b.operator("AVERAGE_POOL_2D", [excess], [cells], pool, 2)

    depth = len(NAMES) + 1
    gain, offset = 17.0, -5.5
    weights = np.zeros((len(RADII) * depth, KERNEL, KERNEL, 3))
    bias = np.full(len(RADII) * depth, offset)
    for size, radius in enumerate(RADII):
        for colour in range(3):
            weights[size * depth + 1 + colour, :, :, colour] = gain * disc_kernel(radius)
    logits = b.tensor((1, rows, columns, len(RADII) * depth), np.int8, SCORE, 0)
    convolve(b, cells, EXCESS, weights, bias, logits, SAME, NONE)
    encodings = b.tensor((1, rows, columns, len(RADII) * 4), np.int8, 0.01, 0)
    convolve(b, cells, EXCESS, np.zeros((len(RADII) * 4, 1, 1, 3)), np.zeros(len(RADII) * 4), encodings, SAME, NONE)

    count = rows * columns * len(RADII)
    real = []
    for name, source, width, quant in (("boxes", encodings, 4, (0.01, 0)), ("scores", logits, depth, (SCORE, 0))):
        flat = b.tensor((1, count, width), np.int8, *quant)
        shape = [1, count, width]
        b.operator("RESHAPE", [source, b.constant(np.array(shape, np.int32))], [flat],
                   options("ReshapeOptions", newShape=shape))
        if name == "scores":
            scores = b.tensor(shape, np.int8, 1 / 256, -128)
            b.operator("LOGISTIC", [flat], [scores], None, 2)
            flat = scores
        values = b.tensor(shape, np.float32)
        b.operator("DEQUANTIZE", [flat], [values], options("DequantizeOptions"), 2)
        real.append(values)
    outputs = post_process(b, real, anchors(rows, columns))
    return b.finish([pixels], outputs)


def anchors(rows, columns):
    """(y, x, height, width) of a square for each cell and size, relative to the picture."""
    y, x, radius = np.meshgrid(np.arange(rows), np.arange(columns), RADII, indexing="ij")
    parts = [(y + 0.5) * STRIDE / HEIGHT, (x + 0.5) * STRIDE / WIDTH, 2 * radius / HEIGHT, 2 * radius / WIDTH]
    return np.stack(parts, -1).reshape(-1, 4).astype(np.float32)


def post_process(b, real, boxes):
    limit = 10
    settings = {
        "max_detections": limit, "max_classes_per_detection": 1, "detections_per_class": 100,
        "use_regular_nms": False, "nms_score_threshold": 0.1, "nms_iou_threshold": 0.15, "num_classes": len(NAMES),
        "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
    }
    shapes = {"boxes": (1, limit, 4), "classes": (1, limit), "scores": (1, limit), "count": (1,)}
    outputs = [b.tensor(shape, np.float32, name=name) for name, shape in shapes.items()]
    inputs = [*real, b.constant(boxes)]
    b.operator("TFLite_Detection_PostProcess", inputs, outputs, None, 1, bytes(flexbuffers.Dumps(settings)))
    return outputs


def scene(frames=36, width=320, height=240):
    """Discs that circle over a grey wall, drawn at twice the size of the model's input."""
    colours = [(214, 48, 44), (28, 176, 60), (46, 92, 214)]
    shade = np.linspace(205, 150, height)[:, None, None] + np.linspace(-12, 12, width)[None, :, None]
    wall = np.repeat(shade, 3, axis=2) + np.array([4, 0, -4])
    wall = Image.fromarray(wall.clip(0, 255).astype(np.uint8)).resize((2 * width, 2 * height))
    for frame in range(frames):
        turn = 2 * math.pi * frame / frames
        picture = wall.copy()
        draw = ImageDraw.Draw(picture)
        for index, (colour, radius) in enumerate(zip(colours, RADII)):
            angle = turn + 2.1 * index
            x = width / 2 + 96 * math.cos(angle)
            y = height / 2 + 62 * math.sin(angle)
            r = 2 * radius
            box = [2 * (x - r), 2 * (y - r), 2 * (x + r), 2 * (y + r)]
            draw.ellipse(box, fill=colour)
        picture.resize((width, height), Image.LANCZOS).save(HERE / "scene" / f"{frame:02}.jpg", quality=88)


if __name__ == "__main__":
    (HERE / "scene").mkdir(exist_ok=True)
    (HERE / "colours.tflite").write_bytes(model())
    (HERE / "colours.txt").write_text("".join(name + "\n" for name in NAMES))
    scene()

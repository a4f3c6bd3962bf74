"""Detections of SSD models: from LiteRT and from eyas, in one form, and the matching of the two."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

import litert
import split_ops

POST_PROCESS = "TFLite_Detection_PostProcess"


@dataclass
class Detection:
    """`box` is x_min, y_min, x_max, y_max as fractions of the picture, clamped to it."""

    class_id: int
    score: float
    box: np.ndarray


def stretched(path, width, height):
    """The picture as RGB bytes [height, width, 3], stretched to the size with Pillow's bilinear filter."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


def to_input(pixels, dtype):
    """RGB bytes as an SSD model's input: bytes, bytes minus 128, or reals from -1 to 1."""
    pixels = pixels[np.newaxis]
    if dtype == np.uint8:
        return pixels
    if dtype == np.int8:
        return (pixels.astype(np.int16) - 128).astype(np.int8)
    return (pixels.astype(np.float32) - 127.5) / 127.5


def post_process_outputs(content):
    """Positions among the model's outputs of boxes, classes, scores, count; None if the model has no PostProcess."""
    model = split_ops.read_model(content)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if split_ops.operator_name(model, operator) == POST_PROCESS:
            outputs = [int(i) for i in graph.outputs]
            return [outputs.index(int(i)) for i in operator.outputs]
    return None


def from_outputs(outputs, order):
    """The detections in the four outputs of a PostProcess operator."""
    boxes, classes, scores, count = (outputs[position] for position in order)
    found = []
    for k in range(int(count.reshape(-1)[0])):
        y_min, x_min, y_max, x_max = np.clip(boxes[0, k], 0, 1)
        box = np.array([x_min, y_min, x_max, y_max], np.float64)
        found.append(Detection(int(classes[0, k]), float(scores[0, k]), box))
    return found


class LiteRtDetector:
    """A PostProcess model in LiteRT's default path."""

    def __init__(self, path):
        content = path.read_bytes()
        self.engine = litert.interpreter(content)
        self.order = post_process_outputs(content)
        detail = self.engine.get_input_details()[0]
        self.dtype = detail["dtype"]
        _, self.height, self.width, _ = (int(n) for n in detail["shape"])

    def detect(self, pixels):
        """Detections in RGB bytes of the model's size."""
        return from_outputs(litert.invoke(self.engine, [to_input(pixels, self.dtype)]), self.order)


def from_eyas(objects, width, height):
    """The detections in one line of `eyas detect --json`, for a picture of the given size."""
    size = np.array([width, height, width, height], np.float64)
    return [
        Detection(o["class_id"], o["confidence"], np.array([o["box"][k] for k in ("x_min", "y_min", "x_max", "y_max")]) / size)
        for o in objects
    ]


def iou(a, b):
    """Intersection over union of two boxes; 1 for two empty boxes in one place."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else float(np.allclose(a, b, atol=0.01))


def match(wanted, offered, least_iou=0.5):
    """Pairs each of `wanted`, best score first, with the free one of its class that overlaps it most, or with None."""
    free = list(offered)
    pairs = []
    for detection in sorted(wanted, key=lambda d: -d.score):
        best = max(
            (other for other in free if other.class_id == detection.class_id),
            key=lambda other: iou(detection.box, other.box),
            default=None,
        )
        if best is not None and iou(detection.box, best.box) < least_iou:
            best = None
        if best is not None:
            free = [other for other in free if other is not best]
        pairs.append((detection, best))
    return pairs

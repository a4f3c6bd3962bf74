"""Models that end in raw boxes and scores: what `eyas detect` finds, and what a plain NumPy decoding of ONNX Runtime's or
LiteRT's outputs finds, in the same pixels; mAP of both by pycocotools.

Exit code 1 if an object scored above 0.4 by one lacks a partner (0.3 or more) with a score within 0.02 and box edges
within 1 % of the picture, for float models, or if the two mAP differ by more than 0.005.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from pycocotools.coco import COCO

import litert
from coco_map import mean_average_precision
from detect_parity import compare, prepare
from detections import Detection, from_eyas, to_input
from eyas_cli import EyasError, call

MAX_DETECTIONS, MAX_IOU, LEAST_SCORE = 100, 0.5, 0.01


def decode(boxes, anchors, scales):
    """ymin, xmin, ymax, xmax of encodings y, x, height, width."""
    y, x, h, w = (boxes / scales).T
    ay, ax, ah, aw = anchors.T
    cy, cx, h, w = y * ah + ay, x * aw + ax, np.exp(h) * ah, np.exp(w) * aw
    return np.stack([cy - h / 2, cx - w / 2, cy + h / 2, cx + w / 2], 1)


def overlaps(box, others):
    top, left = np.maximum(box[0], others[:, 0]), np.maximum(box[1], others[:, 1])
    bottom, right = np.minimum(box[2], others[:, 2]), np.minimum(box[3], others[:, 3])
    area = lambda b: (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    shared = np.maximum(bottom - top, 0) * np.maximum(right - left, 0)
    return shared / (area(box) + area(others) - shared)


def suppress(boxes, scores):
    """Detections: for each class non-maximum suppression, the best of all."""
    found = []
    for class_id in range(scores.shape[1]):
        order = np.argsort(-scores[:, class_id], kind="stable")
        order = order[scores[order, class_id] >= LEAST_SCORE]
        kept = 0
        while len(order) and kept < MAX_DETECTIONS:
            best, order = order[0], order[1:]
            y_min, x_min, y_max, x_max = np.clip(boxes[best], 0, 1)
            found.append(Detection(class_id, float(scores[best, class_id]), np.array([x_min, y_min, x_max, y_max])))
            order = order[overlaps(boxes[best], boxes[order]) <= MAX_IOU]
            kept += 1
    return sorted(found, key=lambda d: -d.score)[:MAX_DETECTIONS]


class OnnxModel:
    def __init__(self, path):
        self.engine = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (self.input,) = self.engine.get_inputs()
        _, _, self.height, self.width = self.input.shape
        self.dtype = np.uint8 if self.input.type == "tensor(uint8)" else np.float32

    def outputs(self, pixels):
        data = to_input(pixels, self.dtype).transpose(0, 3, 1, 2)
        return dict(zip(("boxes", "scores"), self.engine.run(["raw_boxes", "scores"], {self.input.name: data})))


class TfliteModel:
    def __init__(self, path):
        self.engine = litert.interpreter(path.read_bytes())
        detail = self.engine.get_input_details()[0]
        self.dtype = detail["dtype"]
        _, self.height, self.width, _ = (int(n) for n in detail["shape"])

    def outputs(self, pixels):
        found = {}
        for detail, codes in zip(self.engine.get_output_details(), litert.invoke(self.engine, [to_input(pixels, self.dtype)])):
            scale, zero = detail["quantization"]
            found["boxes" if codes.shape[-1] == 4 else "scores"] = (codes.astype(np.float32) - zero) * scale
        return found


def csv_anchors(path):
    return np.loadtxt(path, delimiter=",", skiprows=1), np.array([10, 10, 5, 5])


def json_anchors(path):
    data = json.loads(path.read_text())["subgraph_metadata"][0]["custom_metadata"][0]["data"]
    anchors = data["ssd_anchors_options"]["fixed_anchors_schema"]["anchors"]
    return np.array([[a[k] for k in ("y_center", "x_center", "height", "width")] for a in anchors]), np.ones(4)


def results(found, images, category):
    """Detections of each image as pycocotools wants them, boxes in pixels of the original picture."""
    lines = []
    for image, objects in zip(images, found):
        size = np.array([image["width"], image["height"]] * 2)
        for one in objects:
            x_min, y_min, x_max, y_max = one.box * size
            box = [x_min, y_min, x_max - x_min, y_max - y_min]
            lines.append({"image_id": image["id"], "category_id": category(one.class_id), "bbox": box, "score": one.score})
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary")
    parser.add_argument("--shared", required=True, type=Path, help="the folder of models and data")
    parser.add_argument("--pictures", type=int, default=128, help="how many pictures of each set")
    parser.add_argument("--model", type=Path, help="judge this .onnx twin of the COCO detector alone, such as one by `eyas quantize`")
    parser.add_argument("--mini", action="store_true", help="on coco_mini_val79 in place of coco_val128")
    arguments = parser.parse_args()
    models, data = arguments.shared / "models", arguments.shared / "data"
    coco = "ssd_mobilenet_v2_fpnlite_320_coco"
    csv, person = models / "derived" / f"{coco}_anchors.csv", models / "ssd_mobilenet_v2_256_person_int8_mediapipe"
    coco_truth = data / "coco_val128" / "reference" / "ground_truth_coco_format.json"
    coco_set = coco_truth, data / "coco_val128" / "images", lambda c: c + 1
    if arguments.mini:
        mini = data / "coco_mini_val79"
        coco_set = mini / "instances_val2017.json", mini / "images", lambda c: c + 1
    persons = data / "persons_test82" / "labels.json", data / "persons_test82" / "images", lambda c: c + 1
    cases = [
        (models / "derived" / f"{coco}_float_raw.onnx", OnnxModel, csv_anchors(csv), ["--anchors", csv], coco_set, 0.02),
        (models / "derived" / f"{coco}_qdq_int8_raw.onnx", OnnxModel, csv_anchors(csv), ["--anchors", csv], coco_set, 1),
        (person.with_suffix(".tflite"), TfliteModel, json_anchors(person.with_suffix(".metadata.json")), [], persons, 0.02),
    ]
    if arguments.model:
        cases = [(arguments.model, OnnxModel, csv_anchors(csv), ["--anchors", csv], coco_set, 1)]
    bad = False
    print("| model | pictures | objects | score difference | box difference | eyas mAP | reference mAP | eyas mAP 50 | reference mAP 50 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path, kind, (anchors, scales), flags, (record, folder, category), bound in cases:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(record))
        images = json.loads(record.read_text())["images"][: arguments.pictures]
        truth.imgs = {i["id"]: i for i in images}
        pictures, model = [folder / image["file_name"] for image in images], kind(path)
        with tempfile.TemporaryDirectory() as scratch:
            files, pixels = prepare(pictures, model, Path(scratch))
            try:
                text = call(arguments.eyas, "detect", "-m", path, "-c", 0, "--json", *flags, *files)
            except EyasError as error:
                sys.exit(f"{path.name}: {error}")
        answers = [json.loads(line)["detections"] for line in text.splitlines() if line.startswith("{")]
        ours = [from_eyas(answer, model.width, model.height) for answer in answers]
        theirs = []
        for picture in pixels:
            raw = model.outputs(picture)
            theirs.append(suppress(decode(raw["boxes"][0], anchors, scales), raw["scores"][0][:, 1:]))
        count, score, box, complaints = 0, 0.0, 0.0, []
        for a, b in zip(ours, theirs, strict=True):
            n, s, d, wrong = compare(a, b)
            count, score, box, complaints = count + n, max(score, s), max(box, d), complaints + wrong
        (mine, mine_50), (other, other_50) = (mean_average_precision(truth, results(f, images, category)) for f in (ours, theirs))
        print(f"| {path.name} | {len(images)} | {count} | {score:.4f} | {box:.4f} | {mine:.4f} | {other:.4f} | {mine_50:.4f} | {other_50:.4f} |", flush=True)
        if abs(mine - other) > 0.005 or bound < 1 and (complaints or score > bound or box > 0.01):
            print("\n".join(complaints[:10]), file=sys.stderr)
            bad = True
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

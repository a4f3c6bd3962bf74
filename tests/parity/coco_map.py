"""COCO mAP of `eyas detect` and of LiteRT's default path, in the same pixels.

The data folder holds `images/` and `reference/ground_truth_coco_format.json`. Class `n` of the models is COCO category
`n + 1`. Exit code 1 if the two differ by more than 0.003.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detect_parity import prepare
from detections import LiteRtDetector, from_eyas
from eyas_cli import EyasError, detect

MODELS = ["ssd_mobilenet_v1_300_coco_quant.tflite", "ssd_mobilenet_v2_fpnlite_320_coco_dynrange.tflite"]
TOLERANCE = 0.003


def coco_results(found, images):
    """Detections of each image as pycocotools wants them, boxes in pixels of the original picture."""
    results = []
    for image, objects in zip(images, found):
        for one in objects:
            x_min, y_min, x_max, y_max = one.box
            width, height = image["width"], image["height"]
            box = [x_min * width, y_min * height, (x_max - x_min) * width, (y_max - y_min) * height]
            results.append({"image_id": image["id"], "category_id": one.class_id + 1, "bbox": box, "score": one.score})
    return results


def mean_average_precision(truth, results):
    """mAP at IoU 0.50 to 0.95, and at 0.50."""
    if not results:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary")
    parser.add_argument("--models", required=True, type=Path, help="folder of the SSD models")
    parser.add_argument("--data", required=True, type=Path, help="the data folder, such as coco_val128")
    arguments = parser.parse_args()
    record = arguments.data / "reference" / "ground_truth_coco_format.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(record))
    images = json.loads(record.read_text())["images"]
    pictures = [arguments.data / "images" / image["file_name"] for image in images]
    bad = False
    print("| model | eyas mAP | LiteRT mAP | difference | eyas mAP 50 | LiteRT mAP 50 | verdict |\n|---|---|---|---|---|---|---|")
    for name in MODELS:
        detector = LiteRtDetector(arguments.models / name)
        with tempfile.TemporaryDirectory() as folder:
            files, pixels = prepare(pictures, detector, Path(folder))
            try:
                answers = detect(arguments.eyas, arguments.models / name, files, 0)
            except EyasError as error:
                sys.exit(f"{name}: {error}")
        ours = [from_eyas(answer, detector.width, detector.height) for answer in answers]
        theirs = [detector.detect(data) for data in pixels]
        (mine, mine_50), (other, other_50) = (
            mean_average_precision(truth, coco_results(found, images)) for found in (ours, theirs)
        )
        good = abs(mine - other) <= TOLERANCE
        bad = bad or not good
        verdict = "ok" if good else "DIFFERS"
        print(f"| {name} | {mine:.4f} | {other:.4f} | {mine - other:+.4f} | {mine_50:.4f} | {other_50:.4f} | {verdict} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

"""Whether `eyas detect` finds what LiteRT finds, in the same pixels.

Every object that either scores above 0.4 must be found by the other (scored 0.3 or more), with a score within 0.02 and
box edges within 1 % of the picture. Exit code 1 if not.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from detections import LiteRtDetector, from_eyas, match, stretched
from eyas_cli import EyasError, detect

MODELS = [
    "ssd_mobilenet_v1_300_coco_quant.tflite",
    "ssd_mobilenet_v2_fpnlite_320_cat_raccoon_int8.tflite",
    "ssd_mobilenet_v2_fpnlite_320_coco_dynrange.tflite",
]
CERTAIN, POSSIBLE, SCORE_TOLERANCE, BOX_TOLERANCE = 0.4, 0.3, 0.02, 0.01


def prepare(pictures, detector, folder):
    """Stretches the pictures to the model's size; returns the PNG files and their pixels."""
    files, pixels = [], []
    for number, picture in enumerate(pictures):
        data = stretched(picture, detector.width, detector.height)
        file = folder / f"{number:05}_{picture.stem}.png"
        Image.fromarray(data).save(file)
        files.append(file)
        pixels.append(data)
    return files, pixels


def compare(ours, theirs):
    """Objects compared, largest difference of scores, largest difference of box edges, complaints."""
    count, score, box, complaints = 0, 0.0, 0.0, []
    for name, wanted, offered in (("eyas misses", theirs, ours), ("LiteRT lacks", ours, theirs)):
        possible = [d for d in offered if d.score >= POSSIBLE - SCORE_TOLERANCE]
        for one, other in match([d for d in wanted if d.score > CERTAIN], possible):
            count += 1
            if other is None:
                complaints.append(f"{name} class {one.class_id} scored {one.score:.3f}")
                continue
            score = max(score, abs(one.score - other.score))
            box = max(box, float(np.abs(one.box - other.box).max()))
    return count, score, box, complaints


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary")
    parser.add_argument("--models", required=True, type=Path, help="folder of the SSD models")
    parser.add_argument("--images", required=True, type=Path, help="folder of pictures")
    arguments = parser.parse_args()
    pictures = [p for p in sorted(arguments.images.iterdir()) if p.suffix in (".jpg", ".png", ".bmp")]
    bad = False
    print("| model | picture | objects | score difference | box difference | verdict |\n|---|---|---|---|---|---|")
    for name in MODELS:
        detector = LiteRtDetector(arguments.models / name)
        with tempfile.TemporaryDirectory() as folder:
            files, pixels = prepare(pictures, detector, Path(folder))
            try:
                answers = detect(arguments.eyas, arguments.models / name, files, POSSIBLE)
            except EyasError as error:
                sys.exit(f"{name}: {error}")
        for picture, data, answer in zip(pictures, pixels, answers):
            ours, theirs = from_eyas(answer, detector.width, detector.height), detector.detect(data)
            count, score, box, complaints = compare(ours, theirs)
            good = not complaints and score <= SCORE_TOLERANCE and box <= BOX_TOLERANCE
            bad = bad or not good
            verdict = "ok" if good else "; ".join(complaints) or "DIFFERS"
            print(f"| {name} | {picture.name} | {count} | {score:.4f} | {box:.4f} | {verdict} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

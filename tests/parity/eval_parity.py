"""Figures of `eyas eval` and of pycocotools, from the same detections.

Real models find objects in real data sets (COCO, YOLO and VOC); random cases come from `../datasets/metrics`. Data sets
that are no COCO file are read by pycocotools as `eyas dataset convert` writes them. Exit code 1 if a figure differs by
more than 1e-6.
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

from eyas_cli import call

sys.path.insert(0, str(Path(__file__).parent.parent / "datasets" / "metrics"))
import make_cases  # noqa: E402

NAMES = ["map", "map_50", "map_75", "map_small", "map_medium", "map_large",
         "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"]
TOLERANCE = 1e-6

FPNLITE = "ssd_mobilenet_v2_fpnlite_320_coco_dynrange.tflite"
V1 = "ssd_mobilenet_v1_300_coco_quant.tflite"
RACCOON = "ssd_mobilenet_v2_fpnlite_320_cat_raccoon_int8.tflite"
COCO_FLAGS = ["-l", "labels/coco_labels.txt"]
# Model, its flags, data set, flags of the data set, the pycocotools mAP of LiteRT's detections there.
RUNS = [
    (FPNLITE, COCO_FLAGS, "coco_mini_val79", [], 0.2506),
    (V1, COCO_FLAGS, "coco_mini_val79", [], 0.2053),
    (FPNLITE, COCO_FLAGS, "coco_val128", ["--form", "yolo", "--names", "NAMES"], None),
    (FPNLITE, COCO_FLAGS, "coco_val128/reference/ground_truth_coco_format.json",
     ["--images", "data/coco_val128/images", "--class-map", "MAP"], 0.2347),
    (V1, COCO_FLAGS, "coco_val128/reference/ground_truth_coco_format.json",
     ["--images", "data/coco_val128/images", "--class-map", "MAP"], 0.2208),
    (RACCOON, ["-l", "labels/cat_raccoon_labels.txt"], "raccoon200", ["--form", "voc"], 0.8247),
]


def pycocotools_figures(data, detections):
    """The twelve figures, with None in place of -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data))
        judge = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [None if value == -1 else float(value) for value in judge.stats]


def difference(ours, theirs):
    """The largest difference; infinite where only one has a figure."""
    pairs = [(ours[name], figure) for name, figure in zip(NAMES, theirs)]
    unlike = [(a is None) != (b is None) for a, b in pairs]
    return float("inf") if any(unlike) else max(abs(a - b) for a, b in pairs if a is not None)


def helper_files(shared, folder):
    """Names of COCO's 80 classes as YOLO counts them, and a class map for a data set that calls them by number."""
    lines = (shared / "labels/coco_labels.txt").read_text().split("\n")
    named = [(number, name) for number, name in enumerate(lines, 1) if name and name != "n/a"]
    (folder / "NAMES").write_text("".join(f"{name}\n" for _, name in named))
    (folder / "MAP").write_text("".join(f"{name} = {number}\n" for number, name in named))


def real(eyas, shared, folder, run):
    model, flags, data, data_flags, reference = run
    resolve = lambda flag: str(folder / flag) if flag in ("NAMES", "MAP") else str(shared / flag) if "/" in flag else flag
    flags, data_flags = [resolve(f) for f in flags], [resolve(f) for f in data_flags]
    data = shared / "data" / data
    saved, truth = folder / "found.json", data
    only_data = [f for f in data_flags if f not in ("--class-map", str(folder / "MAP"))]
    text = call(eyas, "eval", data, "-m", shared / "models" / model, *flags, *data_flags, "--json", "--save-detections", saved)
    ours = json.loads(text)
    if not data.is_file() and not list(data.glob("*.json")):
        written = folder / f"{data.name}-coco"
        call(eyas, "dataset", "convert", data, *only_data, "--to", "coco", "-o", written, "--force")
        truth = written / "annotations/instances_default.json"
    elif not data.is_file():
        truth = next(data.glob("*.json"))
    theirs = pycocotools_figures(truth, saved)
    name = str(data.relative_to(shared / "data"))
    return f"{model} on {name}", ours["map"], theirs[0], difference(ours, theirs), reference


def random_cases(eyas, folder, count):
    """The largest difference over random cases."""
    worst = 0.0
    for seed in range(1000, 1000 + count):
        case = make_cases.case(seed)
        data, found = folder / "data.json", folder / "random.json"
        data.write_text(json.dumps(case["data"]))
        found.write_text(json.dumps(case["detections"]))
        ours = json.loads(call(eyas, "eval", data, "--detections", found, "--json"))
        worst = max(worst, difference(ours, [None if s == -1 else s for s in case["stats"]]))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data, labels and models")
    parser.add_argument("--random", type=int, default=200, help="number of random cases")
    arguments = parser.parse_args()
    shared = arguments.shared.resolve()
    worst = 0.0
    print("| detections | eyas mAP | pycocotools mAP | largest difference of 12 figures | mAP of LiteRT's |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        helper_files(shared, folder)
        for run in RUNS:
            name, ours, theirs, far, reference = real(arguments.eyas, shared, folder, run)
            worst = max(worst, far)
            print(f"| {name} | {ours:.6f} | {theirs:.6f} | {far:.1e} | {reference or '-'} |", flush=True)
        far = random_cases(arguments.eyas, folder, arguments.random)
        worst = max(worst, far)
        print(f"| {arguments.random} random cases | - | - | {far:.1e} | - |")
    sys.exit(1 if worst > TOLERANCE else 0)


if __name__ == "__main__":
    main()

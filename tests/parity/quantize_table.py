"""What each mode, method, bit width and granularity of `eyas quantize` costs and gains, as Markdown tables.

Models: the SSD MobileNet V2 FPNLite and the classifier and face detector of the shared folder, and a float detector with
scenes of its own. Every file is run in LiteRT: mAP of a detector with labels (pycocotools), else how far it agrees with
the float model. Times are medians of one inference on one thread, of all files of a model in turn.
"""

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

import litert
import split_ops
from coco_map import coco_results, mean_average_precision
from detections import LiteRtDetector, stretched
from eyas_cli import call

# Flags that make one file each.
SETTINGS = [
    "", "--weights per-tensor", "--method percentile", "--method entropy", "--method mse", "--keep-float 5",
    "--keep-int16 5", "--bits 16", "--mode dynamic", "--mode dynamic --weights per-tensor", "--mode weights",
]
RUNS = 15


def with_boxes(content, count):
    """The file with up to `count` boxes from its post-processing."""
    from flatbuffers import flexbuffers
    model = split_ops.read_model(content)
    for operator in model.subgraphs[0].operators:
        if split_ops.operator_name(model, operator) == "TFLite_Detection_PostProcess":
            options = flexbuffers.Loads(bytes(operator.customOptions))
            operator.customOptions = list(flexbuffers.Dumps(options | {"max_detections": count}))
    return split_ops.write_model(model)


def coco(folder):
    """A function from a file to its mAP .50:.95 on a data folder."""
    record = folder / "reference" / "ground_truth_coco_format.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(record))
    images = json.loads(record.read_text())["images"]

    def judge(path):
        detector = LiteRtDetector(path)
        pixels = (stretched(folder / "images" / image["file_name"], detector.width, detector.height) for image in images)
        return mean_average_precision(truth, coco_results([detector.detect(data) for data in pixels], images))[0]
    return judge


def scenes(folder, count):
    """A function from a file to its mAP .50:.95 on the first of the rendered test scenes of `models/training/dataset.py`,
    taken as pictures of 1000x1000; scenes come as uint8 [n, height, width, 3], boxes as y, x, bottom, right from 0 to 1."""
    shard = folder / "data/test/0000"
    pictures = np.load(shard.with_suffix(".npy"), mmap_mode="r")[:count]
    labels = np.load(shard.with_suffix(".npz"))
    ends = np.cumsum(labels["counts"])
    owners = np.searchsorted(ends, np.arange(ends[-1]), side="right")
    objects = []
    for owner, box, label in zip(owners, labels["boxes"] * 1000.0, labels["classes"]):
        if owner < count and label >= 0:
            y, x, bottom, right = (float(side) for side in box)
            objects.append({"id": len(objects) + 1, "image_id": int(owner), "category_id": int(label) + 1, "iscrowd": 0,
                            "bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y)})
    images = [{"id": index, "width": 1000, "height": 1000} for index in range(count)]
    truth = COCO()
    truth.dataset = {"images": images, "annotations": objects,
                     "categories": [{"id": n} for n in sorted({o["category_id"] for o in objects})]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()

    def judge(path):
        detector = LiteRtDetector(path)
        size = (detector.width, detector.height)
        pixels = (np.asarray(Image.fromarray(data).resize(size, Image.Resampling.BILINEAR)) for data in pictures)
        return mean_average_precision(truth, coco_results([detector.detect(data) for data in pixels], images))[0]
    return judge


def agreement(float_path, pictures, mean, std):
    """A function from a file to how far it agrees with the float model: the share of pictures with the same top class, or
    1 - |difference| / |float| of the outputs."""
    def answers(path):
        engine = litert.interpreter(path.read_bytes())
        detail = engine.get_input_details()[0]
        _, height, width, _ = detail["shape"]
        results = []
        for picture in pictures:
            pixels = stretched(picture, width, height)[np.newaxis]
            real = (pixels.astype(np.float32) - mean) / std
            outputs = litert.invoke(engine, [real if detail["dtype"] == np.float32 else pixels])
            results.append([output.astype(np.float64) for output in outputs])
        return results
    wanted = answers(float_path)

    def judge(path):
        found = answers(path)
        if len(wanted[0]) == 1:
            return float(np.mean([a[0].argmax() == b[0].argmax() for a, b in zip(wanted, found)]))
        signal = sum(float((x**2).sum()) for a in wanted for x in a)
        noise = sum(float(((x - y) ** 2).sum()) for a, b in zip(wanted, found) for x, y in zip(a, b))
        return 1 - (noise / signal) ** 0.5
    return judge


class EyasClock:
    """`eyas bench` on one thread; `None` for a file that eyas does not run."""

    def __init__(self, eyas, path):
        self.process = subprocess.Popen([eyas, "bench", "-m", path, "--threads", "1", "--on-request"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.runs = bool(self.process.stdout.readline())

    def milliseconds(self):
        self.process.stdin.write("1\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["times_ms"][0]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class LiteRtClock:
    def __init__(self, path):
        self.engine = litert.interpreter(path.read_bytes())
        detail = self.engine.get_input_details()[0]
        self.engine.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        self.engine.invoke()

    def milliseconds(self):
        start = time.perf_counter()
        self.engine.invoke()
        return 1e3 * (time.perf_counter() - start)


def times(eyas, files):
    """Median milliseconds of each file in eyas (`None` where it does not run) and in LiteRT, measured in turn."""
    clocks = [(EyasClock(eyas, path), LiteRtClock(path)) for path in files]
    seen = [([], []) for _ in files]
    for _ in range(RUNS):
        for (ours, theirs), (our_times, their_times) in zip(clocks, seen):
            if ours.runs:
                our_times.append(ours.milliseconds())
            their_times.append(theirs.milliseconds())
    for ours, _ in clocks:
        ours.close()
    return [(statistics.median(ours) if ours else None, statistics.median(theirs)) for ours, theirs in seen]


def table(arguments, model, flags, settings, calibration, measure, judge):
    """Quantizes a model by each of the settings and prints a row for each file, the float model first."""
    print(f"\n{model.name}, {measure}\n")
    print("| flags | bytes | accuracy | eyas, ms | LiteRT, ms |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        rows = [("float", model)]
        for number, setting in enumerate(settings):
            made = Path(folder) / f"{number}.tflite"
            call(arguments.eyas, "quantize", model, "--calibrate", calibration, "--pictures", arguments.pictures,
                 "-o", made, *flags, *setting.split())
            rows.append((f"`{setting}`" if setting else "defaults", made))
        files = [path for _, path in rows]
        for (name, path), (ours, theirs) in zip(rows, times(arguments.eyas, files)):
            ours = f"{ours:.2f}" if ours else "-"
            print(f"| {name} | {path.stat().st_size:,} | {judge(path):.4f} | {ours} | {theirs:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eyas", required=True, type=Path, help="the eyas binary, a release build")
    parser.add_argument("--shared", required=True, type=Path, help="folder with data and models")
    parser.add_argument("--pictures", type=int, default=100, help="pictures to calibrate with")
    parser.add_argument("--only", choices=("fpnlite", "vww", "ultraface", "codes"), help="one model only")
    parser.add_argument("--build", type=Path, help="folder of rendered test scenes, for codes_float.tflite")
    parser.add_argument("--scenes", type=Path, help="folder of pictures of other scenes, to calibrate it with")
    arguments = parser.parse_args()
    training = Path(__file__).resolve().parents[2] / "models/training"
    data, models = arguments.shared / "data", arguments.shared / "models"
    photographs = data / "coco_train128/images"
    others = sorted((data / "coco_val128/images").iterdir())[:100]
    wants = lambda name: arguments.only in (None, name)
    if wants("fpnlite"):
        source = models / "derived/ssd_mobilenet_v2_fpnlite_320_coco_float.tflite"
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / source.name
            model.write_bytes(with_boxes(source.read_bytes(), 100))
            table(arguments, model, [], SETTINGS, photographs, "mAP .50:.95 on coco_val128", coco(data / "coco_val128"))
    for name, file, mean, std in [("vww", "vww_96_float.tflite", 0, 255), ("ultraface", "ultraface_rfb_320_float.tflite", 127, 128)]:
        if wants(name):
            flags = ["--mean", mean, "--std", std]
            judge = agreement(models / file, others, mean, std)
            table(arguments, models / file, flags, SETTINGS, photographs, "agreement with float on 100 COCO pictures", judge)
    if wants("codes") and arguments.build and arguments.scenes:
        judge = scenes(arguments.build, 300)
        model = training / "codes_float.tflite"
        table(arguments, model, [], SETTINGS, arguments.scenes, "mAP .50:.95 on 300 test scenes", judge)


if __name__ == "__main__":
    main()

"""How good a model is: mAP on synthetic scenes, a confusion table, and photographs that training never saw."""

import argparse
import contextlib
import io
import os
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
from PIL import Image

from dataset import Scenes, resize
from model import CLASSES, INPUT_SIZE, anchors, infer, normalize_input
from targets import detections, iou

THRESHOLD = 0.5
FOLDERS = {"qrcode": "qr_code", "datamatrix": "data_matrix", "aztec": "aztec", "pdf417": "pdf417",
           "ean13": "barcode", "ean8": "barcode", "upca": "barcode", "upce": "barcode", "code128": "barcode",
           "code39": "barcode", "itf": "barcode", "falsepositives": None}


def runner(network):
    """A function from uint8 pictures [n, size, size, 3] to a list of (boxes, classes, scores), from one to codes and
    logits."""
    import tensorflow as tf
    places = anchors()

    @tf.function(jit_compile=False)
    def forward(images):
        codes, logits = network(images)
        return codes, tf.sigmoid(logits)

    def run(images):
        return [detections(c, s, places) for c, s in zip(*(part.numpy() for part in forward(images)))]

    return run


def float_network(weights):
    """From uint8 pictures to codes and logits, with folded weights."""
    import tensorflow as tf
    constants = {name: tf.constant(value, tf.float32) for name, value in weights.items()}
    return lambda images: infer(constants, normalize_input(images))


def model_input(images, kind):
    """Bytes for a model that takes bytes, else -1..1."""
    return images if kind == np.uint8 else images.astype(np.float32) / 127.5 - 1


def tflite_runner(path):
    """The same from a `.tflite` file that ends in TFLite_Detection_PostProcess."""
    from ai_edge_litert.interpreter import Interpreter
    # With two threads LiteRT 2.3.0 loses a class in the suppression of boxes class by class.
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    outputs = post_process_outputs(interpreter)

    def run(images):
        results = []
        for image in images:
            interpreter.set_tensor(source["index"], model_input(image[None], source["dtype"]))
            interpreter.invoke()
            boxes, classes, scores, count = (interpreter.get_tensor(index)[0] for index in outputs)
            kept = slice(int(count))
            results.append((boxes[kept], classes[kept].astype(int), scores[kept]))
        return results

    return run


def post_process_outputs(interpreter):
    """Tensor indices of boxes, classes, scores and count, by the operator's own list."""
    details = interpreter._get_ops_details()
    return [list(op["outputs"]) for op in details if op["op_name"] == "TFLite_Detection_PostProcess"][0]


def predictions(run, scenes, batch=50, size=INPUT_SIZE):
    found = []
    for start in range(0, len(scenes), batch):
        images = [resize(scenes[i][0], size, size) for i in range(start, min(start + batch, len(scenes)))]
        found += run(np.stack(images))
    return found


def average_precision(found, scenes, least_area=0.0):
    """mAP at IoU 0.5, mAP at .5:.95, and both for each class, by COCO's rules on pictures of 1000x1000. Boxes of less
    than `least_area`, a share of the picture, count neither for nor against, as COCO's area ranges have it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    truth, guesses = [], []
    for index in range(len(scenes)):
        _, boxes, classes = scenes[index]
        truth += [record(index, box, label, id=len(truth) + n + 1, iscrowd=0)
                  for n, (box, label) in enumerate((b, c) for b, c in zip(boxes, classes) if c >= 0)]
        guesses += [record(index, box, label, score=float(score)) for box, label, score in zip(*found[index])]
    if not guesses:
        return 0.0, 0.0, {name: (0.0, 0.0) for name in CLASSES}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": i, "width": 1000, "height": 1000} for i in range(len(scenes))],
                        "annotations": truth, "categories": [{"id": i} for i in range(len(CLASSES))]}
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(guesses), "bbox")
        judge.params.areaRng, judge.params.areaRngLbl = [[least_area * 1e6, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, -1]
    by_class = {name: (known_mean(precision[0, :, i]), known_mean(precision[:, :, i]))
                for i, name in enumerate(CLASSES)}
    return known_mean(precision[0]), known_mean(precision), by_class


def known_mean(values):
    values = values[values >= 0]
    return float(values.mean()) if values.size else float("nan")


def record(image, box, label, **more):
    y, x, bottom, right = (float(value) * 1000 for value in box)
    return {"image_id": image, "category_id": int(label), "bbox": [x, y, right - x, bottom - y],
            "area": (right - x) * (bottom - y), **more}


def confusion(found, scenes):
    """Counts by [truth or none, detected class or none] at the threshold and IoU 0.5."""
    none = len(CLASSES)
    table = np.zeros((none + 1, none + 1), int)
    for index, (boxes, classes, scores) in enumerate(found):
        _, truth, labels = scenes[index]
        truth, labels = truth[labels >= 0], labels[labels >= 0]
        taken = np.zeros(len(truth), bool)
        kept = scores >= THRESHOLD
        for box, label in zip(boxes[kept], classes[kept]):
            overlap = iou(box[None], truth)[0] * ~taken if len(truth) else np.zeros(0)
            best = overlap.argmax() if len(overlap) else 0
            if len(overlap) and overlap[best] >= 0.5:
                taken[best] = True
                table[labels[best], label] += 1
            else:
                table[none, label] += 1
        for label in labels[~taken]:
            table[label, none] += 1
    return table


def print_confusion(table):
    names = (*CLASSES, "nothing")
    print(f"{'truth / found':14}" + "".join(f"{name:>12}" for name in names))
    for name, row in zip(names, table):
        print(f"{name:14}" + "".join(f"{count:12}" for count in row))


def photographs(folder):
    """(path, class name or None) of every picture in sub-folders such as qrcode-1."""
    for path in sorted(Path(folder).glob("*/*")):
        kind = path.parent.name.split("-")[0]
        if kind in FOLDERS and path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            yield path, FOLDERS[kind]


def photograph_input(path):
    """As eyas does it: stretched to the input with an antialiased bilinear filter."""
    picture = Image.open(path).convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(ground, picture).convert("RGB")
    return np.asarray(picture.resize((INPUT_SIZE, INPUT_SIZE), Image.BILINEAR))


def judge_photographs(run, folder, verbose, draw):
    seen, right, alarms = Counter(), Counter(), Counter()
    for path, wanted in photographs(folder):
        image = photograph_input(path)
        boxes, classes, scores = run(image[None])[0]
        kept = scores >= THRESHOLD
        names = [CLASSES[label] for label in classes[kept]]
        group = path.parent.name
        seen[group] += 1
        good = wanted in names if wanted else not names
        right[group] += good
        alarms[group] += any(name != wanted for name in names)
        if verbose:
            listed = " ".join(f"{CLASSES[label]}:{score:.2f}" for label, score in zip(classes[:4], scores[:4]))
            print(f"{'ok  ' if good else 'MISS'} {group}/{path.name:24} {listed}")
        if draw:
            save_drawing(Path(draw) / f"{group}-{path.stem}.png", image, boxes, classes, scores)
    for group in seen:
        print(f"photographs {group:16} {right[group]:3} of {seen[group]:3} right, {alarms[group]:3} with a wrong class")
    codes = [group for group in seen if FOLDERS[group.split("-")[0]]]
    print(f"photographs, codes: {sum(right[g] for g in codes)} of {sum(seen[g] for g in codes)} found")


def save_drawing(path, image, boxes, classes, scores, least=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = cv2.cvtColor(cv2.resize(image, None, fx=2, fy=2), cv2.COLOR_RGB2BGR)
    for box, label, score in zip(boxes, classes, scores):
        if score >= least:
            y, x, bottom, right = (np.clip(box, 0, 1) * canvas.shape[0]).astype(int)
            colour = (0, 200, 0) if score >= THRESHOLD else (0, 160, 255)
            cv2.rectangle(canvas, (x, y), (right, bottom), colour, 2)
            cv2.putText(canvas, f"{CLASSES[label]} {score:.2f}", (x, max(y - 4, 12)), 0, 0.5, colour, 1, cv2.LINE_AA)
    cv2.imwrite(str(path), canvas)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help=".tflite files, or .npz files of folded float weights")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NPZ",
                        help="folded weights, as train.py leaves them (weights.npz)")
    parser.add_argument("--build", default="build")
    parser.add_argument("--split", default="test")
    parser.add_argument("--scenes", type=int, default=1000, help="0: photographs only")
    parser.add_argument("--photographs", metavar="FOLDER")
    parser.add_argument("--draw", metavar="FOLDER", help="write pictures with boxes here")
    parser.add_argument("--verbose", action="store_true", help="a line for each photograph")
    arguments = parser.parse_args()
    for path in arguments.checkpoint + arguments.models:
        print(f"== {Path(path).name}")
        run = runner(float_network(dict(np.load(path)))) if str(path).endswith(".npz") else tflite_runner(path)
        if arguments.scenes:
            judge_scenes(run, Scenes(arguments.build, arguments.split, arguments.scenes), arguments.draw)
        if arguments.photographs:
            judge_photographs(run, arguments.photographs, arguments.verbose, arguments.draw)


def judge_scenes(run, scenes, draw):
    found = predictions(run, scenes)
    at_half, mean, by_class = average_precision(found, scenes)
    for name, (half, whole) in by_class.items():
        print(f"{name:14} AP@0.5 {half:.4f}  AP@.5:.95 {whole:.4f}")
    print(f"{'all':14} mAP@0.5 {at_half:.4f} mAP@.5:.95 {mean:.4f}")
    for side in (32, 48, 64):
        at_half, mean, _ = average_precision(found, scenes, (side / INPUT_SIZE) ** 2)
        print(f"{f'from {side}x{side}':14} mAP@0.5 {at_half:.4f} mAP@.5:.95 {mean:.4f}")
    print_confusion(confusion(found, scenes))
    empty = [scores for (_, _, scores), (_, boxes, _) in zip(found, scenes) if not len(boxes)]
    alarms = sum(any(scores >= THRESHOLD) for scores in empty)
    print(f"a false detection in {alarms} of {len(empty)} scenes without a code", flush=True)
    if draw:
        for index in range(min(40, len(scenes))):
            image = resize(scenes[index][0], INPUT_SIZE, INPUT_SIZE)
            save_drawing(Path(draw) / f"scene-{index:04}.png", image, *found[index])


if __name__ == "__main__":
    main()

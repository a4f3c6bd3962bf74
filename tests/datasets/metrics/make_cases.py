"""Writes cases.json: random ground truth and detections with the figures that pycocotools computes from them.

python3 make_cases.py, with numpy and pycocotools 2.0.11. The cases provoke what is easily got wrong: crowds, equal
scores, areas unlike the box's and on the limits of the classes of size, pictures without objects, classes without
objects, ids with gaps and out of order, more than 100 detections of one class on a picture, detections twice, detections
beside every object, boxes without area. Ids of annotations start at 1: pycocotools takes 0 for "none".
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SIDE = 640


def box(random, area):
    """A box of about this area inside the picture, in tenths of a pixel."""
    ratio = random.uniform(0.5, 2)
    width, height = (min(SIDE, (area * r) ** 0.5) for r in (ratio, 1 / ratio))
    x, y = random.uniform(0, SIDE - width), random.uniform(0, SIDE - height)
    return [round(float(v), 1) for v in (x, y, width, height)]


def truth(random, images, categories, crowds):
    """Annotations of all images but the last two, which stay empty; the last category has none."""
    annotations = []
    for image in images[:-2]:
        for _ in range(random.integers(0, 12)):
            sizes = [200, 1024, 3000, 9216, 40000]
            bounds = box(random, sizes[random.integers(len(sizes))])
            area = bounds[2] * bounds[3] * random.choice([1, 1, 0.6])
            if random.random() < 0.1:
                area = float(random.choice([1024, 9216]))
            if random.random() < 0.03:
                bounds[2] = 0.0
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "bbox": bounds, "area": round(float(area), 4),
                "category_id": int(random.choice(categories[:-1])), "iscrowd": int(random.random() < crowds),
            })
    return annotations


def detections(random, images, categories, annotations):
    """Most lie near an object; some are duplicates, some anywhere."""
    found = []
    for annotation in annotations:
        for _ in range(random.integers(0, 3)):
            shift = random.normal(0, random.choice([0, 0.03, 0.1, 0.3]), 4)
            x, y, width, height = annotation["bbox"]
            scale = [width, height, width, height]
            bounds = [round(float(v + s * f), 1) for v, s, f in zip((x, y, width, height), scale, shift)]
            bounds[2:] = [max(0.0, v) for v in bounds[2:]]
            category = annotation["category_id"] if random.random() < 0.9 else int(random.choice(categories))
            found.append((annotation["image_id"], category, bounds))
    for image in images:
        for _ in range(random.integers(0, 6)):
            found.append((image, int(random.choice(categories)), box(random, random.choice([300, 5000, 20000]))))
    crowded = images[0]
    for _ in range(130 if random.random() < 0.5 else 0):
        found.append((crowded, categories[0], box(random, 2000)))
    order = random.permutation(len(found))
    score = lambda: round(float(random.random()), int(random.choice([1, 2, 6])))
    return [{"image_id": found[i][0], "category_id": found[i][1], "bbox": found[i][2], "score": score()} for i in order]


def judge(data, found):
    """The twelve figures, and of each category with objects the average precision."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = data
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(json.loads(json.dumps(found))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][:, :, :, 0, 2]
    each = [precision[:, :, k] for k in range(precision.shape[2])]
    return [float(s) for s in judge.stats], [float(p.mean()) if (p > -1).any() else -1.0 for p in each]


def case(seed):
    random = np.random.default_rng(seed)
    images = [int(i) for i in random.permutation(np.arange(3, 120))[: random.integers(4, 9)]]
    categories = sorted(int(c) for c in random.permutation(np.arange(1, 91))[: random.integers(2, 5)])
    annotations = truth(random, images, categories, random.choice([0, 0.15, 0.4]))
    data = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": SIDE, "height": SIDE} for i in images],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"kind {c}"} for c in categories],
    }
    found = detections(random, images, categories, annotations)
    stats, each = judge(data, found)
    return {"data": data, "detections": found, "stats": stats, "ap": each}


if __name__ == "__main__":
    cases = [case(seed) for seed in range(12)]
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    Path(__file__).with_name("cases.json").write_text(f"[\n{lines}\n]\n")

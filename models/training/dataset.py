"""Scenes on disk, and batches of them with random crops, turns and light.

A split is rendered once into shards of 500 scenes: NNNN.npy (uint8 [500, 320, 320, 3]) and NNNN.npz (boxes, classes and
the number of boxes of each scene).
"""

import argparse
import multiprocessing
import os
import queue
import threading
from pathlib import Path

import cv2
import numpy as np

from model import INPUT_SIZE, anchors
from targets import Matcher, areas

SCENE_SIZE = 320
SHARD = 500
KEPT, FORGOTTEN = 0.6, 0.02
SMALLEST = 9 / INPUT_SIZE


def render_shard(folder, split, shard, count):
    from scenes import scene
    images = np.empty((count, SCENE_SIZE, SCENE_SIZE, 3), np.uint8)
    boxes, classes, counts = [], [], []
    for number in range(count):
        image, box, label = scene(split, shard * SHARD + number, SCENE_SIZE)
        images[number] = image
        boxes.append(np.asarray(box, np.float32).reshape(-1, 4))
        classes.append(np.asarray(label, np.int32).reshape(-1))
        counts.append(len(label))
    labels = {"boxes": np.concatenate(boxes), "classes": np.concatenate(classes), "counts": np.array(counts)}
    write_atomically(folder / f"{shard:04}.npy", lambda file: np.save(file, images))
    write_atomically(folder / f"{shard:04}.npz", lambda file: np.savez(file, **labels))
    return shard


def write_atomically(path, write):
    unfinished = path.with_name(path.name + ".part")
    with open(unfinished, "wb") as file:
        write(file)
    os.replace(unfinished, path)


def render_one(work):
    return render_shard(*work)


def render(build, split, scenes, processes=2):
    """Renders the shards of a split that are missing; the labels, written last, mark a finished one."""
    folder = Path(build) / "data" / split
    folder.mkdir(parents=True, exist_ok=True)
    work = [(folder, split, shard, min(SHARD, scenes - shard * SHARD)) for shard in range(-(-scenes // SHARD))]
    missing = [item for item in work if not (folder / f"{item[2]:04}.npz").exists()]
    print(f"{split}: {len(work) - len(missing)} of {len(work)} shards present", flush=True)
    with multiprocessing.get_context("spawn").Pool(processes, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for done, shard in enumerate(pool.imap_unordered(render_one, missing), 1):
            print(f"{split}: shard {shard:04} ({done} of {len(missing)})", flush=True)


class Scenes:
    """Rendered splits ("train", or several: "train+decoys"): `scenes[i]` is (image, boxes, classes); images stay on
    disk until read. Each split but the last must be of whole shards."""

    def __init__(self, build, splits, most=None):
        self.images, self.labels = [], []
        for split in splits.split("+"):
            folder = Path(build) / "data" / split
            paths = sorted(folder.glob("*.npz"))
            if not paths:
                raise SystemExit(f"{folder} has no scenes: render them with dataset.py --split {split}")
            for path in paths:
                self._add(path)
        self.count = min(len(self.labels), most or len(self.labels))

    def _add(self, path):
        self.images.append(np.load(path.with_suffix(".npy"), mmap_mode="r"))
        with np.load(path) as labels:
            ends = np.cumsum(labels["counts"])[:-1]
            self.labels += zip(np.split(labels["boxes"], ends), np.split(labels["classes"], ends))

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return (self.images[index // SHARD][index % SHARD], *self.labels[index])


def resize(image, width, height):
    shrinks = width < image.shape[1] or height < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def move(boxes, classes, window):
    """Boxes in a window (ymin, xmin, ymax, xmax) of the picture. A box cut to less than 60 % becomes a region to be
    ignored (class -1), one of which next to nothing is left goes; tiny ones are ignored too."""
    origin, size = np.array(window[:2] * 2), np.array([window[2] - window[0], window[3] - window[1]] * 2)
    moved = (boxes - origin) / size
    cut = np.clip(moved, 0, 1)
    visible = areas(cut) / np.maximum(areas(moved), 1e-9)
    tiny = np.maximum(cut[:, 2] - cut[:, 0], cut[:, 3] - cut[:, 1]) < SMALLEST
    classes = np.where((visible < KEPT) | tiny, -1, classes)
    there = visible >= FORGOTTEN
    return cut[there].astype(np.float32), classes[there]


def crop(random, image, boxes, classes, size):
    """A random window, of random shape, of the picture, resized to the input. Of a few windows the one that cuts
    the fewest boxes is taken."""
    side, best = image.shape[0], None
    for _ in range(4):
        scale, shape = random.uniform(0.4, 1.0), np.exp(random.uniform(-0.35, 0.35))
        width, height = (max(16, int(side * min(1, scale * s))) for s in (np.sqrt(shape), 1 / np.sqrt(shape)))
        x, y = random.integers(side - width + 1), random.integers(side - height + 1)
        moved = move(boxes, classes, (y / side, x / side, (y + height) / side, (x + width) / side))
        broken = np.count_nonzero(moved[1] < 0)
        if best is None or broken < best[0]:
            best = (broken, (x, y, width, height), moved)
        if broken == 0 and (len(moved[1]) or not len(classes)):
            break
    _, (x, y, width, height), (boxes, classes) = best
    return resize(image[y:y + height, x:x + width], size, size), boxes, classes


def shrink(random, image, boxes, classes, size):
    """The whole picture, smaller and of a random shape, somewhere on a plain ground."""
    width, height = (int(size * random.uniform(0.55, 1.0)) for _ in range(2))
    x, y = random.integers(size - width + 1), random.integers(size - height + 1)
    canvas = np.empty((size, size, 3), np.uint8)
    canvas[:] = random.integers(0, 256, 3, dtype=np.uint8)
    canvas[y:y + height, x:x + width] = resize(image, width, height)
    window = (-y / height, -x / width, (size - y) / height, (size - x) / width)
    return (canvas, *move(boxes, classes, window))


def turn(random, image, boxes):
    """One of the eight flips and quarter turns."""
    if random.random() < 0.5:
        image, boxes = image[:, ::-1], boxes[:, [0, 3, 2, 1]] * (1, -1, 1, -1) + (0, 1, 0, 1)
    if random.random() < 0.3:
        image, boxes = image[::-1], boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (1, 0, 1, 0)
    if random.random() < 0.4:
        image, boxes = image.transpose(1, 0, 2), boxes[:, [1, 0, 3, 2]]
    return np.ascontiguousarray(image), boxes.astype(np.float32)


NOISE = np.random.default_rng(0).normal(0, 1, (2, 512, 512, 3)).astype(np.float32)


def light(random, image):
    """Brightness, contrast, gamma and a colour cast in one table; sometimes grey, blur, noise or JPEG."""
    if random.random() < 0.8:
        level = np.linspace(0, 1, 256, dtype=np.float32)[:, None] ** np.exp(random.uniform(-0.4, 0.4))
        gain = np.exp(random.uniform(-0.35, 0.35)) * np.exp(random.uniform(-0.12, 0.12, 3))
        level = (level - 0.5) * gain + 0.5 + random.uniform(-0.18, 0.18)
        image = cv2.LUT(image, (np.clip(level, 0, 1) * 255).astype(np.uint8)[None])
    if random.random() < 0.2:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if random.random() < 0.15:
        image = cv2.GaussianBlur(image, (5, 5), random.uniform(0.4, 1.5))
    if random.random() < 0.25:
        y, x = random.integers(512 - image.shape[0], size=2)
        noise = NOISE[random.integers(2), y:y + image.shape[0], x:x + image.shape[1]]
        image = cv2.scaleAdd(noise, random.uniform(2, 12), image.astype(np.float32))
        image = cv2.convertScaleAbs(np.maximum(image, 0, out=image))
    if random.random() < 0.06:
        data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 85))))[1]
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image


def augment(random, image, boxes, classes, size=INPUT_SIZE):
    choice = random.random()
    if choice < 0.6:
        image, boxes, classes = crop(random, image, boxes, classes, size)
    elif choice < 0.75:
        image, boxes, classes = shrink(random, image, boxes, classes, size)
    else:
        image = resize(image, size, size)
        boxes, classes = move(boxes, classes, (0, 0, 1, 1))
    image, boxes = turn(random, image, boxes)
    return light(random, image), boxes, classes


class Batches:
    """An endless stream of (images uint8, codes, labels), the same for the same seed, starting at any batch. A thread
    makes a few batches ahead."""

    def __init__(self, scenes, size, seed, start=0, ahead=6):
        cv2.setNumThreads(1)
        self.scenes, self.size, self.seed = scenes, size, seed
        self.matcher = Matcher(anchors())
        self.order = (-1, None)
        self.queue = queue.Queue(ahead)
        threading.Thread(target=self._work, args=(start,), daemon=True).start()

    def _scene(self, position):
        epoch, place = divmod(position, len(self.scenes))
        if self.order[0] != epoch:
            self.order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.scenes)))
        return self.scenes[self.order[1][place]]

    def make(self, batch):
        random = np.random.default_rng([self.seed, batch, 1])
        images, codes, labels = [], [], []
        for position in range(batch * self.size, (batch + 1) * self.size):
            image, boxes, classes = augment(random, *self._scene(position))
            label, code = self.matcher(boxes, classes)
            images.append(image)
            codes.append(code)
            labels.append(label)
        return np.stack(images), np.stack(codes), np.stack(labels)

    def _work(self, batch):
        try:
            while True:
                self.queue.put(self.make(batch))
                batch += 1
        except Exception as failure:  # handed to the reader, who would wait for ever otherwise
            self.queue.put(failure)

    def __next__(self):
        item = self.queue.get()
        if isinstance(item, Exception):
            raise item
        return item


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render the missing scenes of a split.")
    parser.add_argument("--build", default="build", help="folder of all outputs")
    parser.add_argument("--split", required=True, choices=("train", "decoys", "validation", "decoys_validation", "test", "decoys_test"))
    parser.add_argument("--scenes", type=int, required=True)
    arguments = parser.parse_args()
    render(arguments.build, arguments.split, arguments.scenes)

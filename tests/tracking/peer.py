"""Compares the tracks of eyas with those of another ByteTrack on the same detections.

    EYAS_TRACK_OUT=target/crowd cargo test --test tracking crowd
    pip install supervision==0.25.1 motmetrics==1.4.0
    python tests/tracking/peer.py target/crowd

The peer is `supervision.ByteTrack` (Roboflow), told the frame rate and given the threshold and the patience that eyas
has; the judge of both is py-motmetrics.
"""

import sys
from collections import defaultdict
from pathlib import Path

import motmetrics
import numpy as np
import supervision

CONFIDENCE = 0.4
PATIENCE_SECONDS = 2
METRICS = ["mota", "idf1", "num_switches", "num_objects", "num_misses", "num_false_positives"]


def read(path):
    """Rows of id, confidence and box, by frame."""
    frames = defaultdict(list)
    for line in path.read_text().splitlines():
        frame, *row = line.split()
        frames[int(frame)].append([float(value) for value in row])
    return frames


def peer(detections, count, rate):
    # It counts its buffer in frames of 1/30 s.
    tracker = supervision.ByteTrack(
        track_activation_threshold=CONFIDENCE, lost_track_buffer=30 * PATIENCE_SECONDS, frame_rate=rate)
    tracks = {}
    for frame in range(count):
        rows = np.array(detections[frame], float).reshape(-1, 6)
        seen = supervision.Detections(
            xyxy=rows[:, 2:], confidence=rows[:, 1], class_id=np.zeros(len(rows), int))
        found = tracker.update_with_detections(seen)
        ids = [] if found.tracker_id is None else found.tracker_id
        rows = zip(ids, found.confidence, found.xyxy)
        tracks[frame] = [[id, conf, *box] for id, conf, box in rows if conf >= CONFIDENCE]
    return tracks


def distance(real, said):
    """1 - IoU of each with each; not a number, which means never, where that is above 0.5."""
    a, b = real[:, None, 2:], said[None, :, 2:]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    overlap = sides.clip(0).prod(-1)
    areas = [(rows[..., 2:] - rows[..., :2]).prod(-1) for rows in (a, b)]
    apart = 1 - overlap / (areas[0] + areas[1] - overlap)
    return np.where(apart <= 0.5, apart, np.nan)


def judge(truth, tracks):
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for frame in range(max(truth) + 1):
        real = np.array(truth[frame]).reshape(-1, 6)
        said = np.array(tracks.get(frame, [])).reshape(-1, 6)
        accumulator.update(real[:, 0].astype(int), said[:, 0].astype(int), distance(real, said))
    return motmetrics.metrics.create().compute(accumulator, metrics=METRICS).iloc[0].to_numpy(float)


def main():
    sums = defaultdict(lambda: np.zeros(len(METRICS)))
    runs = defaultdict(int)
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        walkers, rate, _ = map(int, folder.name.split("-"))
        truth = read(folder / "truth.txt")
        others = peer(read(folder / "detections.txt"), max(truth) + 1, rate)
        sums[walkers, -rate, "eyas"] += judge(truth, read(folder / "tracks.txt"))
        sums[walkers, -rate, "peer"] += judge(truth, others)
        runs[walkers, -rate] += 1
    for (walkers, rate, name), values in sorted(sums.items()):
        mota, idf1 = values[:2] / runs[walkers, rate]
        rest = " ".join(f"{metric} {value:.0f}" for metric, value in zip(METRICS[2:], values[2:]))
        print(f"{walkers:2} walkers {-rate:2} fps {name}: MOTA {mota:.3f} IDF1 {idf1:.3f} {rest}")


if __name__ == "__main__":
    main()

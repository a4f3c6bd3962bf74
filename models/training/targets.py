"""What each anchor should predict, and back: IoU matching, box codes, decoding with non-maximum suppression.

Boxes are ymin, xmin, ymax, xmax in 0..1; anchors are centre y, centre x, height, width. Box codes are SSD's with scales
10, 10, 5, 5 (Liu et al., SSD, arXiv:1512.02325), as TFLite_Detection_PostProcess reads them.
"""

import numpy as np

BACKGROUND, IGNORED = -1, -2
SCALES = np.array((10, 10, 5, 5), np.float32)
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4
# Detections of a picture: how sure they are, how far two of one class overlap (IoU), how many there are.
LEAST_SCORE, MOST_OVERLAP, MOST_DETECTIONS = 0.02, 0.4, 20


def corners(centred):
    half = centred[..., 2:] / 2
    return np.concatenate((centred[..., :2] - half, centred[..., :2] + half), axis=-1)


def centres(boxes):
    size = boxes[..., 2:] - boxes[..., :2]
    return np.concatenate((boxes[..., :2] + size / 2, size), axis=-1)


def areas(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(a, b):
    """Areas shared by every box of `a` [n, 4] with every one of `b` [m, 4]: [n, m]."""
    top = np.maximum(a[:, None, 0], b[None, :, 0])
    left = np.maximum(a[:, None, 1], b[None, :, 1])
    bottom = np.minimum(a[:, None, 2], b[None, :, 2])
    right = np.minimum(a[:, None, 3], b[None, :, 3])
    return np.maximum(bottom - top, 0) * np.maximum(right - left, 0)


def iou(a, b):
    shared = intersections(a, b)
    return shared / np.maximum(areas(a)[:, None] + areas(b)[None, :] - shared, 1e-9)


def encode(boxes, anchors):
    centred = centres(boxes)
    offset = (centred[:, :2] - anchors[:, :2]) / anchors[:, 2:]
    size = np.log(np.maximum(centred[:, 2:], 1e-4) / anchors[:, 2:])
    return np.concatenate((offset, size), axis=1).astype(np.float32) * SCALES


def decode(codes, anchors):
    codes = codes / SCALES
    centre = codes[..., :2] * anchors[:, 2:] + anchors[:, :2]
    return corners(np.concatenate((centre, np.exp(codes[..., 2:]) * anchors[:, 2:]), axis=-1))


class Matcher:
    """Assigns boxes to anchors: IoU of at least 0.5 is positive, 0.4 to 0.5 ignored, and each box's best anchor is
    positive whatever its IoU."""

    def __init__(self, anchors):
        self.anchors = anchors
        self.corners = corners(anchors)
        self.areas = areas(self.corners)

    def __call__(self, boxes, classes):
        """Labels int32 [anchors] (a class id, BACKGROUND or IGNORED) and codes float32 [anchors, 4]. A box of a
        negative class is a region in which nothing is learned."""
        labels = np.full(len(self.anchors), BACKGROUND, np.int32)
        codes = np.zeros((len(self.anchors), 4), np.float32)
        regions = boxes[classes < 0]
        boxes, classes = boxes[classes >= 0], classes[classes >= 0]
        if len(regions):
            inside = intersections(regions, self.corners).max(axis=0)
            labels[inside > 0.4 * self.areas] = IGNORED
        if len(boxes):
            overlap = iou(boxes, self.corners)
            best_box, best = overlap.argmax(axis=0), overlap.max(axis=0)
            for box in np.argsort(overlap.max(axis=1)):
                anchor = overlap[box].argmax()
                best_box[anchor], best[anchor] = box, 1.0
            labels[(best >= NEGATIVE_IOU) & (best < POSITIVE_IOU)] = IGNORED
            positive = np.flatnonzero(best >= POSITIVE_IOU)
            labels[positive] = classes[best_box[positive]]
            codes[positive] = encode(boxes[best_box[positive]], self.anchors[positive])
        return labels, codes


def detections(codes, scores, anchors):
    """Boxes, classes and scores of one picture, best first: the suppression of TFLite_Detection_PostProcess class by
    class. A code whose kind is in doubt gives a box for each kind that it may be of."""
    found = [np.zeros((0, 6))]
    for label in range(scores.shape[1]):
        kept = np.flatnonzero(scores[:, label] >= LEAST_SCORE)
        kept = kept[np.argsort(-scores[kept, label], kind="stable")][:400]
        boxes = decode(codes[kept], anchors[kept])
        alive, overlaps = np.ones(len(kept), bool), iou(boxes, boxes)
        for index in range(len(kept)):
            if alive[index]:
                found.append([[*boxes[index], label, scores[kept[index], label]]])
                alive &= overlaps[index] <= MOST_OVERLAP
    found = np.concatenate(found)
    found = found[np.argsort(-found[:, 5], kind="stable")][:MOST_DETECTIONS]
    return found[:, :4], found[:, 4].astype(int), found[:, 5]

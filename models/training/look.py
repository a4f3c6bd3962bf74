"""Draws scenes with their boxes into a sheet: `python look.py OUT.png [SPLIT] [FIRST]`."""

import sys

import cv2
import numpy as np

from scenes import CLASSES, scene

_SHADES = [(255, 64, 64), (64, 220, 64), (90, 120, 255), (255, 200, 0), (255, 0, 255), (0, 230, 230)]


def sheet(split, first, columns=7, rows=6, size=288):
    out = np.zeros((rows * size, columns * size, 3), np.uint8)
    for i in range(rows * columns):
        picture, boxes, classes = scene(split, first + i, size)
        for (y0, x0, y1, x1), which in zip(boxes * size, classes):
            cv2.rectangle(picture, (int(x0), int(y0)), (int(x1), int(y1)), _SHADES[which], 2)
            cv2.putText(picture, CLASSES[which], (int(x0), max(int(y0) - 3, 10)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _SHADES[which], 1, cv2.LINE_AA)
        y, x = divmod(i, columns)
        out[y * size : (y + 1) * size, x * size : (x + 1) * size] = picture
    return out


if __name__ == "__main__":
    split = sys.argv[2] if len(sys.argv) > 2 else "look"
    cv2.imwrite(sys.argv[1], sheet(split, int(sys.argv[3]) if len(sys.argv) > 3 else 0)[..., ::-1])

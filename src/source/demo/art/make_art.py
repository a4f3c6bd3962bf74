"""Draws the things of the demo scene, seen from straight above: one PNG a thing, with codes that can be read.

Needs `pip install -r requirements.txt`. Prints for each thing where its code lies, in pixels of its picture: the numbers
of `THINGS` in `../things.rs`.
"""

from pathlib import Path

import cv2
import numpy as np
import zxingcpp
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
FONT = HERE.parents[2] / "sink/font/Roboto-Medium.ttf"
UNIT = 4  # pixels for a unit of length of the scene

INK = (28, 28, 32)
WHITE = (250, 250, 248)
GREY = (120, 120, 124)


def modules(kind, text, **options):
    """The code as an array of its modules without quiet zone; True is dark."""
    code = zxingcpp.create_barcode(text, kind, **options)
    picture = np.array(code.to_image(scale=1, add_quiet_zones=False))
    return trimmed(picture < 128)


def marker(dictionary, number, cells):
    """A marker of `cells` cells a side, its black border included."""
    dictionary = cv2.aruco.getPredefinedDictionary(dictionary)
    return cv2.aruco.generateImageMarker(dictionary, number, cells, borderBits=1) < 128


def trimmed(dark):
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    return dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


class Thing:
    """A picture of so many units; all that is drawn onto it is in units too."""

    def __init__(self, name, width, height, colour):
        self.name = name
        self.picture = Image.new("RGB", (round(width * UNIT), round(height * UNIT)), colour)
        self.draw = ImageDraw.Draw(self.picture)

    def box(self, left, top, width, height, fill, radius=0):
        corners = [round(v * UNIT) for v in (left, top, left + width, top + height)]
        corners = [corners[0], corners[1], corners[2] - 1, corners[3] - 1]
        self.draw.rounded_rectangle(corners, radius * UNIT, fill)

    def text(self, x, y, text, size, fill=INK, anchor="la"):
        font = ImageFont.truetype(str(FONT), round(size * UNIT))
        self.draw.text((x * UNIT, y * UNIT), text, fill, font, anchor)

    def code(self, left, top, dark, pixels, ink=INK):
        """Draws modules of `pixels` (one number, or width and height) and tells where they lie."""
        across, down = pixels if isinstance(pixels, tuple) else (pixels, pixels)
        grown = np.repeat(np.repeat(dark, down, 0), across, 1)
        left, top = round(left * UNIT), round(top * UNIT)
        mask = Image.fromarray((grown * 255).astype(np.uint8))
        self.picture.paste(ink, (left, top), mask)
        print(f"{self.name}: [{left}, {top}, {left + mask.width}, {top + mask.height}]")

    def save(self, colours=32, shrink=1):
        path = HERE / f"{self.name}.png"
        self.picture = self.picture.reduce(shrink)
        self.picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{self.name}: {self.picture.size}, {path.stat().st_size} bytes")


def parcel():
    t = Thing("parcel", 132, 144, (193, 150, 104))
    t.box(52, 0, 28, 144, (214, 180, 132))
    t.box(51.5, 0, 0.5, 144, (176, 134, 90))
    t.box(80, 0, 0.5, 144, (176, 134, 90))
    t.box(8, 6, 116, 132, WHITE, 2)
    t.code(22.25, 18, modules(zxingcpp.QRCode, "Hello from eyas!", ec_level="M"), 14)
    t.text(66, 111, "TO: THE NEST", 11, anchor="ma")
    t.text(66, 124, "handle with talons", 9, GREY, "ma")
    t.save()


def label():
    t = Thing("label", 186, 124, WHITE)
    t.box(0, 0, 186, 30, (200, 60, 48))
    t.text(10, 6, "FIELD MOUSE", 15, WHITE)
    t.text(176, 6, "2.50", 15, WHITE, "ra")
    bars = modules(zxingcpp.EAN8, "20260712")
    t.code(17.5, 40, bars[:1], (9, 232))
    t.text(93, 102, "2026 0712", 15, anchor="ma")
    t.save()


def chip():
    t = Thing("chip", 136, 128, (24, 96, 66))
    for i in range(9):
        y = 20 + i * 10.5
        for x, pin in ((0, 14), (112, 110)):
            t.box(x, y, 24, 3, (40, 124, 86))
            t.box(pin, y - 1, 12, 5, (196, 200, 204))
    for x, y in [(8, 8), (128, 8), (8, 120), (128, 120)]:
        t.draw.circle((x * UNIT, y * UNIT), 4.5 * UNIT, (208, 176, 92))
        t.draw.circle((x * UNIT, y * UNIT), 2.4 * UNIT, (30, 40, 36))
    t.box(20, 10, 96, 108, (38, 40, 44), 2)
    t.box(24, 14, 88, 88, WHITE, 1)
    t.code(32, 22, modules(zxingcpp.DataMatrix, "EYAS CHIP 7 INT8"), 18)
    t.text(68, 104.5, "int8 inside", 9.5, (190, 192, 196), "ma")
    t.save()


def ticket():
    t = Thing("ticket", 226, 116, (244, 226, 176))
    t.box(0, 0, 226, 22, (40, 88, 140))
    t.text(10, 4, "SKY RAIL", 13, WHITE)
    t.text(216, 6, "single", 10, WHITE, "ra")
    t.box(122, 24, 100, 90, (252, 244, 220))
    dark = modules(zxingcpp.Aztec, "SKY RAIL 42")
    side = dark.shape[0] * 21 / UNIT
    t.code(172 - side / 2, 69 - side / 2, dark, 21)
    t.text(10, 30, "Nest", 19)
    t.text(10, 50, "to Tall Oak", 15)
    t.text(10, 76, "Coach 7", 12, GREY)
    t.text(10, 92, "Branch 42", 12, GREY)
    t.save()


def boarding():
    t = Thing("boarding", 212, 124, WHITE)
    t.box(0, 0, 212, 24, (26, 120, 122))
    t.text(10, 5, "BOARDING PASS", 13, WHITE)
    t.text(202, 5, "EY 001", 13, WHITE, "ra")
    t.text(16, 30, "HAWK / YOUNG", 12)
    t.text(196, 30, "Gate 9", 12, GREY, "ra")
    dark = modules(zxingcpp.PDF417, "EYAS EY001 9A", ec_level="1")
    width = dark.shape[1] * 7 / UNIT
    t.code(106 - width / 2, 54, dark, (7, 11))
    t.save()


def robot():
    t = Thing("robot", 122, 100, (232, 138, 36))
    for y in (0, 86):
        t.box(0, y, 122, 14, (44, 46, 50))
        for i in range(15):
            t.box(1.5 + i * 8, y + 1, 4, 12, (78, 80, 86))
    t.box(6, 10, 80, 80, WHITE, 1)
    t.code(12, 16, marker(cv2.aruco.DICT_4X4_50, 7, 6), 45)
    for y in (36, 64):
        t.draw.circle((103 * UNIT, y * UNIT), 9 * UNIT, WHITE)
        t.draw.circle((106 * UNIT, y * UNIT), 5 * UNIT, INK)
    t.save()


def card():
    t = Thing("card", 108, 124, WHITE)
    t.box(0, 104, 108, 20, (92, 70, 150))
    t.code(14, 12, marker(cv2.aruco.DICT_APRILTAG_36h11, 3, 8), 40)
    t.text(54, 107, "DOCK 3", 12, WHITE, "ma")
    t.save()


def page():
    """Print without a code: what a detector of codes must leave alone."""
    t = Thing("page", 200, 260, (240, 240, 236))
    t.text(16, 14, "On young hawks", 17)
    lines = [
        "An eyas is a hawk that has not yet", "left the nest. It is small, it sees", "sharply, and it is quick to learn.", "",
        "Nothing on this page is a code, and", "nothing here should get a box. Lines", "of print have edges in rows, much", "as barcodes do, and so do rulers,",
        "grids and keyboards. A detector", "that was shown only codes takes", "them for one sooner or later.", "", "What it needs is a page like this.",
    ]
    for i, line in enumerate(lines):
        t.text(16, 42 + i * 15, line, 10.5)
    t.save(8, 2)


def board():
    t = Thing("board", 130, 130, (232, 214, 180))
    for x in range(8):
        for y in range(8):
            if (x + y) % 2:
                t.box(9 + x * 14, 9 + y * 14, 14, 14, (96, 60, 40))
    t.save(8)


def ruler():
    t = Thing("ruler", 420, 30, (226, 190, 88))
    for i in range(101):
        long = 12 if i % 10 == 0 else 8 if i % 5 == 0 else 5
        t.box(10 + i * 4, 0, 0.75, long, INK)
        if i % 10 == 0 and i:
            t.text(10 + i * 4, 14, str(i // 10), 10, anchor="ma")
    t.save(8)


def road():
    t = Thing("road", 1140, 112, (88, 90, 96))
    t.box(0, 5, 1140, 2.5, (214, 214, 210))
    t.box(0, 104.5, 1140, 2.5, (214, 214, 210))
    for i in range(30):
        t.box(8 + i * 38, 54.5, 20, 3, (236, 200, 80))
    t.save(8, 2)


if __name__ == "__main__":
    for thing in (parcel, label, chip, ticket, boarding, robot, card, page, board, ruler, road):
        thing()

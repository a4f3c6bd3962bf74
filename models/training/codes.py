"""Printed codes as grids of modules, and their looks.

`draw(name, rng)` makes a random code of one class. Contents are random text; the encoders are zxing-cpp (all codes) and
OpenCV's ArUco module (markers).
"""

import string
from dataclasses import dataclass

import cv2
import numpy as np
import zxingcpp

CLASSES = ["qr_code", "data_matrix", "aztec", "pdf417", "barcode", "marker"]
"""Class names in the order of their ids."""

Format = zxingcpp.BarcodeFormat


@dataclass
class Code:
    """A code without quiet zone.

    `modules` is a grid of 0 (ink) and 255 (paper); `aspect` is the height of a grid cell over its width; `quiet` the
    quiet zone that the symbology asks for, in modules; `text` the human-readable line printed under linear codes.
    """

    name: str
    modules: np.ndarray
    aspect: float
    quiet: float
    text: str = ""

    def shape(self):
        """Width and height in module widths."""
        rows, columns = self.modules.shape
        return columns, rows * self.aspect


def draw(name, rng, compact=False):
    """A random code of class `name`; `compact` asks for few modules, for codes that will be small in the picture."""
    return _MAKERS[name](rng, compact)


def _letters(rng, count):
    alphabet = rng.choice(["0123456789", string.ascii_uppercase + string.digits, string.ascii_letters + string.digits + "-./:?=&"])
    if rng.random() < 0.3:
        return ("https://" + "".join(rng.choice(list(string.ascii_lowercase + "./-"), max(count - 8, 3))))[: max(count, 1)]
    return "".join(rng.choice(list(alphabet), count))


def _pick(rng, choices, weights=None):
    return choices[rng.choice(len(choices), p=weights)]


def _length(rng, low, high):
    return int(np.exp(rng.uniform(np.log(low), np.log(high))))


def _grid(text, symbology, **options):
    image = zxingcpp.create_barcode(text, symbology, **options).to_image(scale=1, add_quiet_zones=False)
    return np.where(np.array(image) < 128, 0, 255).astype(np.uint8)


def _qr_code(rng, compact):
    if rng.random() < 0.04:
        return Code("qr_code", _grid(_letters(rng, int(rng.integers(3, 9))).upper(), Format.MicroQRCode), 1.0, 2.0)
    low, high = (6, 60) if compact else (12, 150) if rng.random() < 0.65 else (100, 800)
    text = _letters(rng, _length(rng, low, high))
    return Code("qr_code", _grid(text, Format.QRCode, ec_level=str(rng.choice(["L", "M", "Q", "H"]))), 1.0, 4.0)


def _data_matrix(rng, compact):
    low, high = (3, 30) if compact else (6, 70) if rng.random() < 0.6 else (50, 900)
    return Code("data_matrix", _grid(_letters(rng, _length(rng, low, high)), Format.DataMatrix), 1.0, 1.0)


def _aztec(rng, compact):
    if rng.random() < 0.03:
        return Code("aztec", _grid(str(rng.integers(0, 256)), Format.AztecRune), 1.0, 0.0)
    low, high = (2, 50) if compact else (8, 150) if rng.random() < 0.55 else (120, 1300)
    return Code("aztec", _grid(_letters(rng, _length(rng, low, high)), Format.Aztec), 1.0, 0.0)


def _pdf417(rng, compact):
    kind = _pick(rng, [Format.PDF417, Format.CompactPDF417, Format.MicroPDF417], [0.86, 0.09, 0.05])
    high = 30 if compact else 120 if rng.random() < 0.6 else 1100
    if kind == Format.MicroPDF417:
        high = 40
    text = _letters(rng, _length(rng, 4, high))
    level = {"ec_level": str(rng.integers(1, 6))} if kind == Format.PDF417 and rng.random() < 0.5 else {}
    modules = _grid(text, kind, **level)
    return Code("pdf417", modules, float(rng.uniform(0.55, 1.9)), 2.0)


def _digits(rng, count):
    return "".join(str(d) for d in rng.integers(0, 10, count))


def _with_check(digits):
    """GS1 check digit: weights 3 and 1 in turn from the right (GS1 General Specifications, 7.9)."""
    total = sum(int(d) * (3 if i % 2 == 0 else 1) for i, d in enumerate(reversed(digits)))
    return digits + str((10 - total % 10) % 10)


def _barcode(rng, compact):
    kind = rng.choice(["ean13", "upca", "ean8", "upce", "code128", "code39", "code93", "itf", "codabar", "databar"], p=[0.24, 0.16, 0.06, 0.04, 0.22, 0.1, 0.04, 0.06, 0.03, 0.05])
    free = _letters(rng, int(rng.integers(3, 9 if compact else 18))).upper()
    free = "".join(c for c in free if c in string.ascii_uppercase + string.digits + "-.") or "EYAS"
    if kind == "ean13":
        text = _with_check(_digits(rng, 12))
        modules = _grid(text, Format.EAN13)
    elif kind == "upca":
        text = _with_check(_digits(rng, 11))
        modules = _grid(text, Format.UPCA)
    elif kind == "ean8":
        text = _with_check(_digits(rng, 7))
        modules = _grid(text, Format.EAN8)
    elif kind == "upce":
        text = "01234565"
        modules = _grid(text, Format.UPCE)
    elif kind == "code128":
        text = free
        modules = _grid(text, Format.Code128)
    elif kind == "code39":
        text = free[:12]
        modules = _grid(text, Format.Code39)
    elif kind == "code93":
        text = free
        modules = _grid(text, Format.Code93)
    elif kind == "itf":
        text = _digits(rng, 2 * int(rng.integers(2, 9)))
        modules = _grid(text, Format.ITF)
    elif kind == "codabar":
        text = "A" + _digits(rng, int(rng.integers(4, 12))) + "B"
        modules = _grid(text, Format.Codabar)
    else:
        text = _with_check(_digits(rng, 13))
        modules = _grid(text, _pick(rng, [Format.DataBarOmni, Format.DataBarLtd]) if text[0] in "01" else Format.DataBarOmni)
    width = modules.shape[1]
    height = width * float(np.exp(rng.uniform(np.log(0.16), np.log(1.1))))
    guards = kind in ("ean13", "upca", "ean8", "upce")
    if not guards or rng.random() < 0.3:
        modules = modules[:1]
    return Code("barcode", modules, height / modules.shape[0], 9.0, text)


_DICTIONARIES = [
    cv2.aruco.DICT_4X4_1000, cv2.aruco.DICT_5X5_1000, cv2.aruco.DICT_6X6_1000, cv2.aruco.DICT_7X7_1000,
    cv2.aruco.DICT_ARUCO_ORIGINAL, cv2.aruco.DICT_APRILTAG_16h5, cv2.aruco.DICT_APRILTAG_25h9,
    cv2.aruco.DICT_APRILTAG_36h10, cv2.aruco.DICT_APRILTAG_36h11,
]
_CACHE = {}


def _marker(rng, compact):
    which = int(rng.choice(_DICTIONARIES[:1] + _DICTIONARIES)) if not compact else int(rng.choice(_DICTIONARIES[:3] + _DICTIONARIES[5:6]))
    if which not in _CACHE:
        _CACHE[which] = cv2.aruco.getPredefinedDictionary(which)
    dictionary = _CACHE[which]
    number = int(rng.integers(0, dictionary.bytesList.shape[0]))
    side = dictionary.markerSize + 2
    return Code("marker", cv2.aruco.generateImageMarker(dictionary, number, side), 1.0, 1.0)


_MAKERS = {"qr_code": _qr_code, "data_matrix": _data_matrix, "aztec": _aztec, "pdf417": _pdf417, "barcode": _barcode, "marker": _marker}

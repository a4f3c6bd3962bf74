"""Backgrounds without codes: textures, text, shelves, screens, and regular patterns that could be taken for codes.

Every function takes a generator, a height and a width and gives a uint8 RGB picture of that size. `background` picks one;
`patch` makes a small thing of the same kinds to lie about in a scene.
"""

import functools
import string
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_FONT = Path(__file__).resolve().parents[2] / "src" / "sink" / "font" / "Roboto-Medium.ttf"
_HERSHEY = [cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX_SMALL, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX]


def colour(rng, low=0, high=256):
    """A random colour: grey in a third of the cases, else of any hue."""
    if rng.random() < 0.42:
        return np.full(3, rng.integers(low, high), np.float32)
    return rng.integers(low, high, 3).astype(np.float32)


def noise(rng, height, width, cell):
    """Smooth noise of about `cell` pixels, 0..1."""
    grid = rng.random((max(int(height / cell) + 2, 2), max(int(width / cell) + 2, 2)), dtype=np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def fractal(rng, height, width, roughness=None):
    """Noise of all scales (1/f), 0..1."""
    roughness = rng.uniform(0.35, 0.85) if roughness is None else roughness
    out, weight, cell = np.zeros((height, width), np.float32), 1.0, max(height, width) / 2
    while cell > 2:
        out += weight * noise(rng, height, width, cell)
        weight, cell = weight * roughness, cell / 2
    low, high = out.min(), out.max()
    return (out - low) / max(high - low, 1e-6)


def _mix(mask, first, second):
    return (mask[..., None] * (second - first) + first).astype(np.uint8)


def gradient(rng, height, width):
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * np.linspace(-1, 1, width, dtype=np.float32)[None] + np.sin(angle) * np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return _mix((ramp / 3 + 0.5).clip(0, 1), colour(rng), colour(rng))


def clouds(rng, height, width):
    return _mix(fractal(rng, height, width), colour(rng), colour(rng))


def wood(rng, height, width):
    warp = fractal(rng, height, width, 0.4) * rng.uniform(2, 10)
    across = np.linspace(0, rng.uniform(4, 40), height, dtype=np.float32)[:, None]
    grain = 0.5 + 0.3 * np.sin(across * 2 + warp) + 0.2 * noise(rng, height, width, 2)
    base = np.array([rng.uniform(90, 220), rng.uniform(60, 160), rng.uniform(30, 110)], np.float32)
    return _mix(grain.clip(0, 1), base * rng.uniform(0.4, 0.8), base)


def carpet(rng, height, width):
    fine = rng.random((height, width), dtype=np.float32)
    fine = cv2.GaussianBlur(fine, (0, 0), rng.uniform(0.5, 2.5))
    fine = (fine - fine.mean()) / (fine.std() + 1e-6) * 0.22 + 0.5
    return _mix((0.75 * fine + 0.25 * fractal(rng, height, width)).clip(0, 1), colour(rng), colour(rng))


def speckle(rng, height, width):
    """Blots: band-passed noise cut at a level."""
    sigma = np.exp(rng.uniform(np.log(0.8), np.log(9)))
    field = rng.standard_normal((height, width), dtype=np.float32)
    field = cv2.GaussianBlur(field, (0, 0), sigma) - cv2.GaussianBlur(field, (0, 0), sigma * rng.uniform(1.5, 3))
    field /= field.std() + 1e-6
    level = rng.uniform(-0.8, 0.8)
    if rng.random() < 0.4:
        field = np.abs(field) - rng.uniform(0.2, 0.8)
        level = 0
    return _mix((0.5 + (field - level) * rng.uniform(1, 8)).clip(0, 1), colour(rng), colour(rng))


def checks(rng, height, width):
    """Checkerboards, tiles, grids, dots, meshes and weaves."""
    cell = np.exp(rng.uniform(np.log(4), np.log(60)))
    aspect = np.exp(rng.uniform(-0.6, 0.6)) if rng.random() < 0.5 else 1.0
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = (x / cell) % 1, (y / (cell * aspect)) % 1
    iu, iv = (x // cell).astype(int), (y // (cell * aspect)).astype(int)
    kind = rng.integers(0, 7)
    thin = rng.uniform(0.06, 0.35)
    if kind == 0:
        mask = (iu + iv) % 2
    elif kind == 1:
        mask = (u < thin) | (v < thin)
    elif kind == 2:
        mask = (u - 0.5) ** 2 + (v - 0.5) ** 2 < rng.uniform(0.04, 0.2)
    elif kind == 3:
        mask = ((u + (iv % 2) * 0.5) % 1 < thin) | (v < thin)
    elif kind == 4:
        mask = np.abs(u - 0.5) + np.abs(v - 0.5) < rng.uniform(0.25, 0.49)
    elif kind == 5:
        mask = np.where((iu + iv) % 2 == 0, u < 0.5, v < 0.5)
    else:
        shade = rng.random((iv.max() + 1, iu.max() + 1), dtype=np.float32)
        return _mix(np.where((u < thin) | (v < thin), 0, 0.35 + 0.65 * shade[iv, iu]), colour(rng), colour(rng))
    return _mix(mask.astype(np.float32), colour(rng), colour(rng))


def stripes(rng, height, width):
    """Regular stripes, or a few of free widths and colours: blinds, fences, corduroy, piano keys, shirts."""
    edges, at = [], 0.0
    base = np.exp(rng.uniform(np.log(3), np.log(50)))
    regular = rng.random() < 0.75
    palette = [colour(rng) for _ in range(2 if rng.random() < 0.7 else 4)]
    row = np.empty((width, 3), np.float32)
    duty, i = rng.uniform(0.2, 0.8), 0
    while at < width:
        step = base * 2 * (duty if i % 2 else 1 - duty) if regular else base * rng.uniform(2, 6)
        row[int(at) : int(at + step) + 1] = palette[i % len(palette)]
        at, i = at + max(step, 1), i + 1
    picture = np.repeat(row[None], height, 0).astype(np.uint8)
    return picture if rng.random() < 0.6 else cv2.resize(np.ascontiguousarray(np.rot90(picture)), (width, height))


@functools.lru_cache(maxsize=64)
def _font(size, serif):
    return ImageFont.load_default(size) if serif else ImageFont.truetype(str(_FONT), size)


def words(rng, count):
    """Letters in the shape of words."""
    letters = np.array(list("eeeeettttaaaooiinnsshhrrdlcumwfgypbvk"))
    out = []
    for _ in range(count):
        word = "".join(rng.choice(letters, rng.integers(1, 10)))
        chance = rng.random()
        out.append(word.upper() if chance < 0.06 else word.capitalize() if chance < 0.16 else "".join(rng.choice(list(string.digits + ".-/"), rng.integers(1, 7))) if chance < 0.22 else word)
    return " ".join(out)


def text(rng, height, width):
    """A page or label full of text."""
    paper, ink = colour(rng, 170, 256), colour(rng, 0, 110)
    if rng.random() < 0.2:
        paper, ink = ink, paper
    size = int(np.exp(rng.uniform(np.log(8), np.log(42))))
    pitch = int(size * rng.uniform(1.1, 1.7))
    left = int(rng.integers(-20, 30))
    if rng.random() < 0.6:
        page = Image.new("RGB", (width, height), tuple(int(c) for c in paper))
        pen, font = ImageDraw.Draw(page), _font(size, rng.random() < 0.5)
        for y in range(int(rng.integers(-size, size)), height, pitch):
            if rng.random() < 0.9:
                pen.text((left, y), words(rng, max(int(width / size / 2.4 * rng.uniform(0.3, 1)), 1)), fill=tuple(int(c) for c in ink), font=font)
        return np.array(page)
    page = np.empty((height, width, 3), np.uint8)
    page[:] = paper
    font, weight = _HERSHEY[rng.integers(len(_HERSHEY))], max(1, size // 14)
    for y in range(int(rng.integers(0, size)), height + size, pitch):
        if rng.random() < 0.9:
            cv2.putText(page, words(rng, max(int(width / size / 2.4), 1)), (left, y), font, size / 30, [int(c) for c in ink], weight, cv2.LINE_AA)
    return page


def clutter(rng, height, width):
    """Coloured things of simple shape over one another."""
    picture = clouds(rng, height, width) if rng.random() < 0.5 else gradient(rng, height, width)
    for _ in range(rng.integers(4, 30)):
        shade = [int(c) for c in colour(rng)]
        x, y = int(rng.integers(-40, width)), int(rng.integers(-40, height))
        w, h = (int(np.exp(rng.uniform(np.log(6), np.log(max(width, height) * 0.7)))) for _ in range(2))
        kind = rng.integers(0, 5)
        if kind == 0:
            cv2.rectangle(picture, (x, y), (x + w, y + h), shade, -1 if rng.random() < 0.7 else int(rng.integers(1, 6)), cv2.LINE_AA)
        elif kind == 1:
            cv2.ellipse(picture, (x, y), (w // 2 + 1, h // 2 + 1), float(rng.uniform(0, 180)), 0, 360, shade, -1 if rng.random() < 0.7 else int(rng.integers(1, 6)), cv2.LINE_AA)
        elif kind == 2:
            corners = np.stack([rng.integers(x - w, x + w + 1, 4), rng.integers(y - h, y + h + 1, 4)], 1).astype(np.int32)
            cv2.fillPoly(picture, [corners], shade, cv2.LINE_AA)
        elif kind == 3:
            cv2.line(picture, (x, y), (x + w, y + int(rng.integers(-h, h + 1))), shade, int(rng.integers(1, 9)), cv2.LINE_AA)
        else:
            cv2.putText(picture, words(rng, 2), (x, y), _HERSHEY[rng.integers(len(_HERSHEY))], float(rng.uniform(0.4, 2.5)), shade, int(rng.integers(1, 5)), cv2.LINE_AA)
    return picture


def shelf(rng, height, width):
    """Rows of spines or boxes with writing on them."""
    picture = clouds(rng, height, width)
    rows = int(rng.integers(1, 4))
    for r in range(rows):
        bottom, top, x = (r + 1) * height // rows - 6, r * height // rows, 0
        while x < width:
            w = int(rng.integers(10, 90))
            shade = [int(c) for c in colour(rng)]
            y = top + int(rng.integers(4, max(height // rows // 3, 5)))
            cv2.rectangle(picture, (x, y), (x + w - 1, bottom), shade, -1)
            if rng.random() < 0.6 and w > 16:
                band = text(rng, 14, max(bottom - y, 4))
                band = np.rot90(band)[: bottom - y]
                wide = max(min(band.shape[1], w - 4, width - x - 2), 0)
                picture[y : y + band.shape[0], x + 2 : x + 2 + wide] = band[:, :wide]
            x += w + int(rng.integers(0, 6))
    return picture


def table(rng, height, width):
    """Ruled cells with numbers, some filled: spreadsheets, calendars, crosswords, keyboards."""
    paper, ink = colour(rng, 150, 256), colour(rng, 0, 120)
    if rng.random() < 0.25:
        paper, ink = ink, paper
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = paper
    cw, ch = int(rng.integers(12, 70)), int(rng.integers(12, 50))
    filled, written = rng.random() * 0.4, rng.random()
    gap = int(rng.integers(0, 4))
    for y in range(0, height, ch):
        for x in range(0, width, cw):
            if rng.random() < filled:
                cv2.rectangle(picture, (x + gap, y + gap), (x + cw - gap, y + ch - gap), [int(c) for c in (ink if rng.random() < 0.7 else colour(rng))], -1)
            elif rng.random() < written:
                cv2.putText(picture, words(rng, 1)[: max(cw // 8, 1)], (x + 3, y + ch - 4), cv2.FONT_HERSHEY_SIMPLEX, min(ch, cw) / 40, [int(c) for c in ink], 1, cv2.LINE_AA)
    if rng.random() < 0.8:
        picture[::ch] = ink
        picture[:, ::cw] = ink
    return picture


def curls(rng, height, width):
    """Lines that wind: floral prints, scribbles, cables, hair."""
    picture = gradient(rng, height, width)
    for _ in range(rng.integers(5, 40)):
        steps = int(rng.integers(8, 40))
        turn = np.cumsum(rng.normal(0, 0.5, steps)) + rng.uniform(0, 6.3)
        path = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1) * rng.uniform(3, 18), 0) + [rng.uniform(0, width), rng.uniform(0, height)]
        cv2.polylines(picture, [path.astype(np.int32)], bool(rng.random() < 0.2), [int(c) for c in colour(rng)], int(rng.integers(1, 8)), cv2.LINE_AA)
    return picture


def blocks(rng, height, width):
    """Random cells of two shades without any finder pattern, large enough not to be a code's inside."""
    cell = int(rng.integers(14, 48))
    grid = (rng.random((height // cell + 2, width // cell + 2)) < rng.uniform(0.25, 0.75)).astype(np.float32)
    mask = cv2.resize(grid, None, fx=cell, fy=cell, interpolation=cv2.INTER_NEAREST)[:height, :width]
    return _mix(mask, colour(rng), colour(rng))


def rings(rng, height, width):
    """Concentric circles, targets, nested frames at odd proportions."""
    picture = clouds(rng, height, width)
    for _ in range(rng.integers(1, 5)):
        x, y, r = int(rng.integers(0, width)), int(rng.integers(0, height)), float(rng.uniform(10, max(width, height, 30) / 2.5))
        shades = [[int(c) for c in colour(rng)] for _ in range(2)]
        step = r / rng.integers(2, 7)
        round_ = rng.random() < 0.75
        for i in range(8):
            if r < 2:
                break
            if round_:
                cv2.circle(picture, (x, y), int(r), shades[i % 2], -1, cv2.LINE_AA)
            else:
                cv2.rectangle(picture, (int(x - r), int(y - 0.5 * r)), (int(x + r), int(y + 0.5 * r)), shades[i % 2], -1)
            r -= step * (1 if round_ else rng.uniform(0.5, 1.5))
    return picture


def herringbone(rng, height, width):
    """Rows of slanted stripes that turn at each row: tweed, parquet, ribbed knits."""
    row, stripe = np.exp(rng.uniform(np.log(8), np.log(60))), np.exp(rng.uniform(np.log(3), np.log(16)))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = x + np.where((y // row) % 2 == 0, y, -y) * rng.uniform(0.4, 1.5)
    wave = 0.5 + 0.5 * np.sin(across * (2 * np.pi / stripe))
    return _mix((wave * 0.7 + 0.3 * rng.random((height, width), dtype=np.float32)).clip(0, 1), colour(rng), colour(rng))


def cells(rng, height, width):
    """A lattice of dots or bars of random brightness: blinds, LED walls, knits, perforated metal."""
    pitch_x, pitch_y = (np.exp(rng.uniform(np.log(4), np.log(20))) for _ in range(2))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    iu, iv = (x // pitch_x).astype(int), (y // pitch_y).astype(int)
    shade = rng.random((iv.max() + 1, iu.max() + 1), dtype=np.float32)
    if rng.random() < 0.5:
        shade = np.where(shade < rng.uniform(0.3, 0.8), 1.0, rng.uniform(0, 0.8)).astype(np.float32)
    u, v = (x / pitch_x) % 1 - 0.5, (y / pitch_y) % 1 - 0.5
    inside = (u / rng.uniform(0.25, 0.5)) ** 2 + (v / rng.uniform(0.25, 0.5)) ** 2 < 1 if rng.random() < 0.6 else (np.abs(u) < 0.35) & (np.abs(v) < 0.42)
    return _mix(np.where(inside, shade[iv, iu], 0.0), colour(rng), colour(rng))


def petals(rng, height, width):
    """Printed flowers: fans of petals with dots and lines inside."""
    picture = curls(rng, height, width) if rng.random() < 0.6 else gradient(rng, height, width)
    ink = [int(c) for c in colour(rng)]
    for _ in range(rng.integers(3, 14)):
        centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        size, count = rng.uniform(0.04, 0.2) * max(height, width) + 4, int(rng.integers(4, 12))
        start = rng.uniform(0, 360)
        for i in range(count):
            turn = start + 360 / count * i
            at = centre + size * 0.6 * np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
            cv2.ellipse(picture, tuple(int(c) for c in at), (max(int(size * 0.5), 1), max(int(size * 0.22), 1)), turn, 0, 360, ink, -1 if rng.random() < 0.3 else max(int(size / 12), 1), cv2.LINE_AA)
            if rng.random() < 0.5:
                cv2.circle(picture, tuple(int(c) for c in at), max(int(size / 9), 1), ink, -1, cv2.LINE_AA)
    return picture


_PLAIN = [gradient, clouds, wood, clutter, shelf]
_HARD = [carpet, speckle, checks, stripes, text, table, curls, blocks, rings]


def _tilted(rng, make, height, width):
    """The same pattern on a plane that is turned and tilted."""
    big = make(rng, int(height * 1.5), int(width * 1.5))
    h, w = big.shape[:2]
    centre, turn = np.array([w / 2, h / 2]), rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else rng.normal(0, 0.15)
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2 * 0.95
    corners = corners @ rotate.T * rng.uniform(0.6, 1.0) + rng.uniform(-0.12, 0.12, (4, 2)) * [width, height] + centre
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32))
    return cv2.warpPerspective(big, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def background(rng, height, width, hard):
    """A background; `hard` is the share of those with regular patterns or text."""
    make = rng.choice(_HARD) if rng.random() < hard else rng.choice(_PLAIN)
    return _tilted(rng, make, height, width) if rng.random() < 0.6 else make(rng, height, width)


def patch(rng, height, width):
    """A small thing without a code."""
    return rng.choice([text, text, checks, stripes, table, rings, gradient, speckle, curls])(rng, height, width)


def decoy(rng, height, width):
    """A busy texture of any kind that holds no code."""
    return rng.choice(_HARD + [speckle, speckle, text, carpet, herringbone, cells, cells, petals])(rng, height, width)

"""Scenes with printed codes, and where the codes are.

`scene(split, index, size)` is a pure function: the same picture and boxes each time. Three kinds of scene: photographs
(codes on labels, boxes, screens, seen by a camera), graphics (one clean code that fills the picture), and scenes without
any code; splits whose name begins with "decoys" have only the last, busy ones. A box holds the modules of a code without its quiet zone, as far as they are inside the picture.
"""

import zlib

import cv2
import numpy as np

import backgrounds
import codes
import effects
from codes import CLASSES  # noqa: F401  (part of this module's interface)

cv2.setNumThreads(1)

_AREA = 1.5
"""Side of the canvas that a scene is drawn on, over the side of the picture."""


def scene(split, index, size):
    """Picture uint8 [size, size, 3], boxes float32 [n, 4] (ymin, xmin, ymax, xmax, 0..1), classes int32 [n]."""
    rng = np.random.default_rng([zlib.crc32(split.encode()), index])
    kind = rng.random()
    if split.startswith("decoys"):
        canvas, found = _decoys(rng, size), []
    elif kind < 0.2:
        canvas, found = _graphic(rng, size)
    else:
        canvas, found = _photograph(rng, size, empty=kind > 0.86)
    height, width = canvas.shape[:2]
    picture = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    boxes = np.array([box for _, box in found], np.float32).reshape(-1, 4) / [height, width, height, width]
    return picture, boxes.astype(np.float32), np.array([which for which, _ in found], np.int32)


def _colours(rng, paper_may_be_dark):
    """Paper and ink, far enough apart to be seen."""
    if rng.random() < 0.45:
        paper, ink = np.full(3, rng.uniform(200, 256)), np.full(3, rng.uniform(0, 60))
    else:
        paper, ink = backgrounds.colour(rng, 110, 256), backgrounds.colour(rng, 0, 150)
        gap = paper.mean() - ink.mean()
        if gap < 70:
            paper, ink = (paper + (70 - gap)).clip(0, 255), (ink - (70 - gap)).clip(0, 255)
    if paper_may_be_dark and rng.random() < 0.09:
        paper, ink = ink, paper
    return paper.astype(np.float32), ink.astype(np.float32)


def _modules(rng, code, scale_x, scale_y):
    """The code's modules at so many pixels each, 0..255; 2-D codes sometimes of dots or rounded, QR codes with a logo."""
    rows, columns = code.modules.shape
    size = (max(round(columns * scale_x), 1), max(round(rows * scale_y), 1))
    image = cv2.resize(code.modules, size, interpolation=cv2.INTER_NEAREST)
    if code.name in ("qr_code", "data_matrix") and min(scale_x, scale_y) >= 4 and rng.random() < 0.15:
        radius = scale_x * rng.uniform(0.25, 0.5)
        soft = cv2.GaussianBlur(image, (0, 0), radius)
        image = ((soft.astype(np.float32) - 128) * 4 + 128).clip(0, 255).astype(np.uint8)
    return image


def _logo(rng, art, side):
    """Something in the middle of a QR code, as its error correction allows."""
    h, w = art.shape[:2]
    part = int(side * rng.uniform(0.14, 0.3))
    x, y = (w - part) // 2 + int(rng.normal(0, part * 0.15)), (h - part) // 2 + int(rng.normal(0, part * 0.15))
    if part > 4 and x >= 0 and y >= 0 and y + part <= h and x + part <= w:
        logo = backgrounds.patch(rng, part, part)
        if rng.random() < 0.5:
            round_ = np.zeros((part, part, 1), np.uint8)
            cv2.circle(round_, (part // 2, part // 2), part // 2, 1, -1)
            logo = np.where(round_ > 0, logo, art[y : y + part, x : x + part])
        art[y : y + part, x : x + part] = logo


def _label(rng, code, pixel, quiet):
    """A code on its paper: RGB picture, and the rectangle x0, y0, x1, y1 of the modules in it.

    `pixel` is the width of a module; `quiet` the paper around it in modules.
    """
    step = max(int(np.ceil(pixel)), 1)
    if step < 3 and code.modules.shape[1] * 3 < 700:
        step = 3
    image = _modules(rng, code, step, step * code.aspect)
    h, w = image.shape
    margin = [int(step * quiet * rng.uniform(0.8, 1.4)) for _ in range(4)]
    paper, ink = _colours(rng, True)
    left, top, right, bottom = margin
    texts = []
    line = max(int(w * rng.uniform(0.06, 0.12)), 6)
    if code.text and rng.random() < 0.7:
        bottom += int(line * 1.3)
        texts.append((left + w // 20, top + h + line, code.text))
    if rng.random() < 0.25:
        top += int(line * 1.6)
        texts.append((left, top - line // 3, backgrounds.words(rng, 3)[: max(int(w / line * 1.6), 1)]))
    if rng.random() < 0.15:
        bottom += int(line * 3)
        texts += [(left, top + h + int(line * (1.6 + 1.2 * i)), backgrounds.words(rng, 3)[: max(int(w / line * 1.6), 1)]) for i in range(2)]
    cover = image.astype(np.float32)[..., None] / 255
    if rng.random() < 0.04:
        ramp = np.linspace(0, 1, w, dtype=np.float32)[None, :, None]
        art = ink * (1 - ramp) + ink[::-1] * ramp
    else:
        art = ink
    art = (art * (1 - cover) + paper * cover).astype(np.uint8)
    if code.name == "qr_code" and rng.random() < 0.15:
        _logo(rng, art, min(h, w))
    sheet = np.empty((h + top + bottom, w + left + right, 3), np.uint8)
    sheet[:] = paper
    if rng.random() < 0.3:
        grain = backgrounds.noise(rng, *sheet.shape[:2], max(step, 3))[..., None] - 0.5
        sheet = (sheet + grain * rng.uniform(5, 40)).clip(0, 255).astype(np.uint8)
    sheet[top : top + h, left : left + w] = art
    for x, y, words in texts:
        cv2.putText(sheet, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, line / 30, [int(c) for c in ink], max(line // 12, 1), cv2.LINE_AA)
    if rng.random() < 0.1:
        cv2.rectangle(sheet, (0, 0), (sheet.shape[1] - 1, sheet.shape[0] - 1), [int(c) for c in ink], max(step // 2, 1))
    _damage(rng, sheet, paper, ink)
    return sheet, (left, top, left + w, top + h)


def _damage(rng, sheet, paper, ink):
    """Scratches, spots, faded print."""
    h, w = sheet.shape[:2]
    if rng.random() < 0.1:
        for _ in range(rng.integers(1, 6)):
            ends = [(int(rng.integers(0, w)), int(rng.integers(0, h))) for _ in range(2)]
            cv2.line(sheet, *ends, [int(c) for c in (paper if rng.random() < 0.7 else ink)], int(rng.integers(1, max(min(h, w) // 40, 2) + 1)), cv2.LINE_AA)
    if rng.random() < 0.08:
        for _ in range(rng.integers(1, 5)):
            cv2.circle(sheet, (int(rng.integers(0, w)), int(rng.integers(0, h))), int(rng.integers(1, max(min(h, w) // 12, 2) + 1)), [int(c) for c in backgrounds.colour(rng)], -1, cv2.LINE_AA)
    if rng.random() < 0.1:
        fade = backgrounds.fractal(rng, h, w)[..., None] * rng.uniform(0.2, 0.6)
        sheet[:] = (sheet * (1 - fade) + paper * fade).astype(np.uint8)


def _bend(rng, sheet, inner):
    """The sheet on a cylinder; gives the bent sheet, its mask and the outline of the code in it."""
    h, w = sheet.shape[:2]
    arc, bow = rng.uniform(0.3, 1.2), rng.normal(0, 0.1) * h
    pad = int(abs(bow)) + 2
    u = np.linspace(-1, 1, w, dtype=np.float32)
    source = np.arcsin(u * np.sin(arc)) / arc
    map_x = np.repeat(((source + 1) / 2 * (w - 1))[None], h + 2 * pad, 0).astype(np.float32)
    rise = (bow * (np.cos(source * arc) - np.cos(arc)) / (1 - np.cos(arc))).astype(np.float32)
    map_y = np.arange(h + 2 * pad, dtype=np.float32)[:, None] - pad - rise[None]
    bent = cv2.remap(sheet, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.remap(np.full((h, w), 255, np.uint8), map_x, map_y, cv2.INTER_LINEAR)
    x0, y0, x1, y1 = inner
    s = np.linspace(x0, x1, 12) / (w - 1) * 2 - 1
    to = (np.sin(s * arc) / np.sin(arc) + 1) / 2 * (w - 1)
    up = pad + bow * (np.cos(s * arc) - np.cos(arc)) / (1 - np.cos(arc))
    shade = 1 - np.abs(u)[None, :, None] ** 2 * rng.uniform(0, 0.5)
    return (bent * shade).astype(np.uint8), mask, np.concatenate([np.stack([to, y0 + up], 1), np.stack([to, y1 + up], 1)])


def _pose(rng, w, h, span, centre):
    """Homography from a sheet of w x h pixels to the canvas: turned, tilted, `span` pixels along its longer side."""
    chance = rng.random()
    turn = rng.normal(0, 0.12) if chance < 0.55 else rng.uniform(0, 2 * np.pi) if chance < 0.85 else rng.integers(0, 4) * np.pi / 2 + rng.normal(0, 0.1)
    tilt_x, tilt_y = (np.clip(rng.normal(0, 0.4, 2), -0.95, 0.95)) if rng.random() < 0.7 else (0.0, 0.0)
    corners = np.array([[-w, -h, 0], [w, -h, 0], [w, h, 0], [-w, h, 0]], np.float64) / max(w, h)
    c, s = np.cos(turn), np.sin(turn)
    corners = corners @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    c, s = np.cos(tilt_x), np.sin(tilt_x)
    corners = corners @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T
    c, s = np.cos(tilt_y), np.sin(tilt_y)
    corners = corners @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    distance = rng.uniform(3, 9)
    flat = corners[:, :2] * (distance / (distance + corners[:, 2:]))
    flat = flat * span / 2 + centre
    return cv2.getPerspectiveTransform(np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32), flat.astype(np.float32))


def _through(matrix, points):
    return cv2.perspectiveTransform(np.asarray(points, np.float32).reshape(-1, 1, 2), matrix).reshape(-1, 2)


def _paste(rng, canvas, sheet, mask, matrix, opacity):
    """Lays a sheet on the canvas with a soft shadow."""
    height, width = canvas.shape[:2]
    h, w = sheet.shape[:2]
    outline = _through(matrix, [[0, 0], [w, 0], [w, h], [0, h]])
    pad = 14
    x0, y0 = np.maximum(np.floor(outline.min(0)).astype(int) - pad, 0)
    x1, y1 = np.minimum(np.ceil(outline.max(0)).astype(int) + pad, [width, height])
    if x1 - x0 < 4 or y1 - y0 < 4:
        return
    local = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]], np.float64) @ matrix
    size = (int(x1 - x0), int(y1 - y0))
    warped = cv2.warpPerspective(sheet, local, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpPerspective(mask, local, size, flags=cv2.INTER_LINEAR).astype(np.float32)[..., None] / 255
    region = canvas[y0:y1, x0:x1].astype(np.float32)
    if opacity is None:
        if rng.random() < 0.6:
            move = np.float32([[1, 0, rng.uniform(-8, 8)], [0, 1, rng.uniform(-8, 8)]])
            shadow = cv2.GaussianBlur(cv2.warpAffine(alpha[..., 0], move, size), (0, 0), rng.uniform(1, 6))
            region *= 1 - shadow[..., None] * rng.uniform(0.1, 0.6)
        region = region * (1 - alpha) + warped * alpha
    else:
        region = region * (1 - alpha) + region * (warped / 255.0) * alpha * opacity + region * alpha * (1 - opacity)
    canvas[y0:y1, x0:x1] = region.astype(np.uint8)


def _clear(taken, box, slack=1.0):
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * slack
    return all((centre + half <= other[:2]).any() or (centre - half >= other[2:]).any() for other in taken)


def _place_code(rng, canvas, taken, size, large):
    """Puts one code on the canvas where it is free; its class, box and module width in pixels of the picture, or nothing."""
    height, width = canvas.shape[:2]
    name = CLASSES[rng.integers(len(CLASSES))]
    reach = min(height, width)
    span = reach * (rng.uniform(0.5, 1.25) if large else np.exp(rng.uniform(np.log(0.12), np.log(0.75))))
    code = codes.draw(name, rng, compact=span < reach * 0.45)
    columns, rows = code.shape()
    pixel = span / max(columns, rows)
    least = 0.75 if name == "barcode" else 0.9 if name == "pdf417" else 1.7
    if pixel < least:
        return None
    quiet = code.quiet * rng.uniform(0, 1.2) if rng.random() < 0.5 else rng.uniform(0.7, 6)
    sheet, inner = _label(rng, code, pixel, quiet)
    h, w = sheet.shape[:2]
    mask = np.full((h, w), 255, np.uint8)
    x0, y0, x1, y1 = inner
    outline = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
    if rng.random() < 0.14:
        sheet, mask, outline = _bend(rng, sheet, inner)
        h, w = sheet.shape[:2]
    span_sheet = span * max(h, w) / max(x1 - x0, y1 - y0)
    for _ in range(6):
        slack = 0.1 if large else 0.32
        centre = np.array([width, height]) * rng.uniform(slack if not large else 0.35, 1 - (slack if not large else 0.35), 2)
        matrix = _pose(rng, w, h, span_sheet, centre)
        points = _through(matrix, outline)
        whole = np.concatenate([points.min(0), points.max(0)])
        box = np.concatenate([np.maximum(whole[:2], 0), np.minimum(whole[2:], [width, height])])
        sides = box[2:] - box[:2]
        if (sides <= 4).any() or sides.prod() < (0.85 if rng.random() < 0.8 else 0.6) * (whole[2:] - whole[:2]).prod():
            continue
        rim = _through(matrix, [[0, 0], [w, 0], [w, h], [0, h]])
        around = np.concatenate([rim.min(0), rim.max(0)])
        if not _clear(taken, around):
            continue
        shown = sides * size / [width, height]
        if shown.min() < 9 or shown.max() < 17:
            continue
        see_through = rng.uniform(0.7, 1) if rng.random() < 0.1 else None
        if see_through is not None:
            sheet = np.maximum(sheet, np.where(sheet > 140, 255, 0).astype(np.uint8))
        if rng.random() < 0.12:
            sheet = effects.screen(rng, sheet)
        _paste(rng, canvas, sheet, mask, matrix, see_through)
        taken.append(around)
        area = 0.5 * abs(np.dot(points[:, 0], np.roll(points[:, 1], 1)) - np.dot(points[:, 1], np.roll(points[:, 0], 1))) if len(points) == 4 else sides.prod() * 0.7
        return CLASSES.index(name), box, np.sqrt(max(area, 1) / (columns * rows))
    return None


def _occlude(rng, canvas, box):
    """A finger, a cable, a strap over a small part of a code."""
    x0, y0, x1, y1 = box
    w, h = x1 - x0, y1 - y0
    shade = [int(c) for c in (np.array([rng.uniform(120, 240), rng.uniform(80, 180), rng.uniform(60, 150)]) if rng.random() < 0.6 else backgrounds.colour(rng))]
    side = rng.integers(0, 4)
    at = (int(x0 + w * (rng.random() if side < 2 else side == 3)), int(y0 + h * (rng.random() if side >= 2 else side == 1)))
    cv2.ellipse(canvas, at, (max(int(w * rng.uniform(0.05, 0.22)), 1), max(int(h * rng.uniform(0.05, 0.22)), 1)), float(rng.uniform(0, 180)), 0, 360, shade, -1, cv2.LINE_AA)


def _shape(rng, size):
    """Height and width of a canvas: the shapes of cameras, upright ones, squares."""
    aspect = rng.choice([4 / 3, 16 / 9, 1.0, 3 / 4, 9 / 16, 3 / 2], p=[0.42, 0.17, 0.2, 0.1, 0.04, 0.07]) * np.exp(rng.normal(0, 0.05))
    side = size * _AREA
    return int(side / np.sqrt(aspect)), int(side * np.sqrt(aspect))


def _photograph(rng, size, empty):
    height, width = _shape(rng, size)
    canvas = np.ascontiguousarray(backgrounds.background(rng, height, width, hard=0.8 if empty else 0.4))
    taken, found, finest = [], [], 4.0
    large = not empty and rng.random() < 0.45
    count = 0 if empty else 1 if large else int(rng.integers(1, 6))
    for _ in range(count):
        placed = next((p for p in (_place_code(rng, canvas, taken, size, large) for _ in range(3)) if p), None)
        if placed:
            which, box, pixel = placed
            found.append((which, box[[1, 0, 3, 2]]))
            finest = min(finest, pixel)
            if rng.random() < 0.1:
                _occlude(rng, canvas, box)
    for _ in range(rng.integers(0, 4)):
        side = np.exp(rng.uniform(np.log(0.08), np.log(0.5))) * min(height, width)
        w, h = int(side), int(max(side * rng.uniform(0.3, 1), 8))
        matrix = _pose(rng, w, h, side, np.array([width, height]) * rng.uniform(0.05, 0.95, 2))
        rim = _through(matrix, [[0, 0], [w, 0], [w, h], [0, h]])
        around = np.concatenate([rim.min(0), rim.max(0)])
        if _clear(taken, around):
            _paste(rng, canvas, backgrounds.patch(rng, h, w), np.full((h, w), 255, np.uint8), matrix, None)
            taken.append(around)
    canvas = effects.light(rng, canvas)
    if rng.random() < 0.05:
        canvas = effects.screen(rng, canvas)
    return effects.camera(rng, canvas, blur=min(finest * 0.9, 3.2)), found


def _decoys(rng, size):
    """Busy textures that could be taken for codes: one over all, and sheets and round things of others on it."""
    height, width = _shape(rng, size)
    make = backgrounds.decoy if rng.random() < 0.7 else lambda *shape: backgrounds.background(*shape, hard=0.5)
    canvas = np.ascontiguousarray(make(rng, height, width))
    for _ in range(rng.integers(0, 5) if rng.random() < 0.7 else 0):
        side = np.exp(rng.uniform(np.log(0.12), np.log(0.95))) * min(height, width)
        w, h = int(side), int(max(side * rng.uniform(0.35, 1), 8))
        mask = np.full((h, w), 255, np.uint8)
        if rng.random() < 0.35:
            mask[:] = 0
            cv2.ellipse(mask, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 255, -1)
        matrix = _pose(rng, w, h, side, np.array([width, height]) * rng.uniform(0.1, 0.9, 2))
        _paste(rng, canvas, backgrounds.decoy(rng, h, w), mask, matrix, None)
    canvas = effects.light(rng, canvas)
    return effects.camera(rng, canvas, blur=rng.uniform(0.4, 2.5))


def _graphic(rng, size):
    """One code drawn by a program: with or without quiet zone, in the middle or cut to it, of any shape."""
    name = CLASSES[rng.choice(len(CLASSES), p=[0.16, 0.2, 0.22, 0.2, 0.14, 0.08])]
    while True:
        code = codes.draw(name, rng)
        columns, rows = code.shape()
        if max(columns, rows) < size * 0.68 or name in ("barcode", "pdf417") and columns < size * 1.1:
            break
    step = max(size * _AREA / max(columns, rows), 1.0)
    step = float(rng.uniform(1, step)) if rng.random() < 0.4 else step
    quiet = 0.0 if rng.random() < 0.3 else rng.uniform(0, 2) if rng.random() < 0.5 else rng.uniform(1, 10)
    sheet, (x0, y0, x1, y1) = _label(rng, code, step, quiet)
    if rng.random() < 0.25:
        sheet = np.rot90(sheet).copy()
        x0, y0, x1, y1 = y0, sheet.shape[0] - x1, y1, sheet.shape[0] - x0
    if rng.random() < 0.3:
        frame = [int(rng.exponential(0.25) * max(sheet.shape[:2])) for _ in range(4)]
        wide = np.empty((sheet.shape[0] + frame[0] + frame[1], sheet.shape[1] + frame[2] + frame[3], 3), np.uint8)
        wide[:] = backgrounds.colour(rng) if rng.random() < 0.5 else sheet[0, 0]
        wide[frame[0] : frame[0] + sheet.shape[0], frame[2] : frame[2] + sheet.shape[1]] = sheet
        sheet, x0, x1, y0, y1 = wide, x0 + frame[2], x1 + frame[2], y0 + frame[0], y1 + frame[0]
    height, width = sheet.shape[:2]
    box = np.array([y0, x0, y1, x1], np.float32)
    shown = (box[2:] - box[:2]) / [height, width] * size
    found = [(CLASSES.index(name), box)] if shown.min() >= 9 and shown.max() >= 17 else []
    if rng.random() < 0.3:
        sheet = effects.camera(rng, effects.light(rng, sheet) if rng.random() < 0.5 else sheet, blur=min(step * 0.6, 2.5))
    return sheet, found

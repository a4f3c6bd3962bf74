"""What light and camera do to a picture. Every function takes and gives a uint8 RGB picture."""

import cv2
import numpy as np


def _blob(rng, height, width):
    """A soft blob somewhere, 0..1."""
    small = np.zeros((48, 48), np.float32)
    centre = (int(rng.integers(0, 48)), int(rng.integers(0, 48)))
    cv2.ellipse(small, centre, (int(rng.integers(2, 20)), int(rng.integers(2, 20))), float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), rng.uniform(1, 6)), (width, height))


def light(rng, picture):
    """Uneven light, shadows, glare, colour of the lamp, exposure."""
    height, width = picture.shape[:2]
    gain = np.ones((height, width), np.float32)
    if rng.random() < 0.6:
        angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.5)
        gain *= 1 + depth * (np.cos(angle) * np.linspace(-1, 1, width, dtype=np.float32)[None] + np.sin(angle) * np.linspace(-1, 1, height, dtype=np.float32)[:, None])
    if rng.random() < 0.3:
        corners = rng.uniform(-0.3, 1.3, (int(rng.integers(3, 6)), 2)) * [width, height]
        mask = np.zeros((height, width), np.float32)
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1.0)
        gain *= 1 - rng.uniform(0.15, 0.65) * cv2.blur(mask, (int(rng.integers(1, 40)),) * 2)
    exposure = np.exp(rng.normal(0, 0.25))
    if rng.random() < 0.12:
        exposure *= rng.uniform(0.2, 0.6)
    tint = np.exp(rng.normal(0, 0.09, 3)).astype(np.float32) * exposure
    out = picture * (gain[..., None] * tint)
    if rng.random() < 0.12:
        out += _blob(rng, height, width)[..., None] * rng.uniform(60, 255)
    if rng.random() < 0.25:
        lift = rng.uniform(0, 60)
        out = lift + out * (255 - lift) / 255
    out = out.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        gamma = np.exp(rng.normal(0, 0.3))
        out = cv2.LUT(out, (255 * (np.arange(256) / 255) ** gamma).astype(np.uint8))
    return out


def camera(rng, picture, blur):
    """Blur of at most `blur` pixels, motion, loss of resolution, noise, sharpening, grey, JPEG."""
    height, width = picture.shape[:2]
    chance = rng.random()
    if chance < 0.45:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, max(blur, 0.35)))
    elif chance < 0.6:
        length = int(rng.integers(2, max(int(3 * blur), 3) + 1))
        kernel = np.zeros((length * 2 + 1,) * 2, np.float32)
        angle = rng.uniform(0, np.pi)
        step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        cv2.line(kernel, tuple(int(v) for v in np.round(length - step)), tuple(int(v) for v in np.round(length + step)), 1.0, 1, cv2.LINE_AA)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    if rng.random() < 0.2 and blur > 0.9:
        share = rng.uniform(1 / max(blur, 1), 1)
        small = cv2.resize(picture, (max(int(width * share), 16), max(int(height * share), 16)), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.2:
        picture = cv2.addWeighted(picture, 1 + (amount := rng.uniform(0.3, 1.5)), cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 2)), -amount, 0)
    if rng.random() < 0.25:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.55:
        sigma = rng.exponential(6)
        grain = np.empty((height, width, 1 if rng.random() < 0.5 else 3), np.int16)
        cv2.setRNGSeed(int(rng.integers(1 << 30)))
        cv2.randn(grain, 0, float(min(sigma, 25)))
        picture = (picture.astype(np.int16) + grain).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 92))])
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return picture


def screen(rng, picture):
    """The look of a display: pixel grid or scan lines that beat with the sensor's, and a cast."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.ones((height, width), np.float32)
    for _ in range(rng.integers(1, 3)):
        angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(2.2), np.log(40)))
        wave *= 1 + rng.uniform(0.02, 0.2) * np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period))
    cast = np.array([rng.uniform(0.8, 1), rng.uniform(0.9, 1), rng.uniform(0.95, 1.1)], np.float32)
    return (picture * wave[..., None] * cast).clip(0, 255).astype(np.uint8)

"""What in a picture is garment, and what background."""

import numpy as np
from scipy import ndimage


def find_garment(pixels: np.ndarray) -> tuple[np.ndarray, str]:
    """The RGB pixels, float32 [H, W, 3] up to 255, as a bright garment on black, uint8 [H, W]; and a warning.

    A pixel is as bright as its colour is far from the background's; black where that is near, and outside the largest
    part that is left. The warning says why an answer is not to be trusted; it is empty where nothing speaks against it.
    """
    distances, border = measure_distances(pixels)
    noise = np.median(distances[border])
    found = distances > max(0.05 * 255, min(5 * noise, otsu(distances)))
    parts, _ = ndimage.label(found)
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    bright = distances * (found & (parts == 1 + sizes.argmax()))
    warning = ""
    if not found.any():
        warning = "nothing in it"
    elif sizes.max() < 0.9 * found.sum():
        warning = "several things in it"
    elif noise > 0.09 * 255 or found[border].mean() > 0.2:
        warning = "background uneven"
    return (bright * 255 / max(1, bright.max())).astype(np.uint8), warning


def measure_distances(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each of the pixels is from the background, float [H, W], and which lie on the border, bool [H, W].

    The background is a plane, for light falls from a side, fitted to those half of the border's pixels that lie nearest
    to it. The distance is that of the colour channel that differs most. It is rounded, for products of matrices have
    other last digits on another processor, which would decide ties and which whole number a brightness becomes.
    """
    height, width, _ = pixels.shape
    rows, columns = np.mgrid[:height, :width]
    plane = np.stack([np.ones((height, width)), rows / height, columns / width], axis=-1)
    border = (rows % max(1, height - 1) == 0) | (columns % max(1, width - 1) == 0)
    places, colours = plane[border], pixels[border]
    slopes = np.stack([np.median(colours, axis=0), np.zeros(3), np.zeros(3)])
    for _ in range(3):
        errors = np.abs(colours - places @ slopes).max(-1).round(6)
        nearest = errors <= np.median(errors)
        slopes, *_ = np.linalg.lstsq(places[nearest], colours[nearest])
    return np.abs(pixels - (plane @ slopes).clip(0, 255)).max(-1).round(6), border


def otsu(values: np.ndarray) -> float:
    """The threshold that separates the values, from 0 to 255, best into two groups (Otsu, 1979)."""
    shares = np.histogram(values, bins=256, range=(0, 256))[0] / values.size
    below, sums = shares.cumsum(), (shares * np.arange(256)).cumsum()
    between = (sums[-1] * below - sums) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return float(between.argmax())

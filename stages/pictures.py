"""Pictures of garments in files, as the dataset has its images. Without PyTorch: it is used elsewhere too."""

from collections.abc import Sequence
from contextlib import suppress
from math import prod
import os
from pathlib import Path
from stat import S_ISREG
import sys
from typing import NamedTuple, NoReturn

from garment import find_garment
import numpy as np
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

SIZE = (28, 28)  # pixels
SMALL = (140, 140)  # what a picture is reduced to first
BLACK = 5  # the lightest black: JPEG has no exact one
MOST = 150_000_000  # pixels of a picture in memory, at four bytes each
CLUTTER = ("Thumbs.db", "desktop.ini")  # left behind by file managers
Image.MAX_IMAGE_PIXELS = None  # which would refuse large pictures before they are read in small


class Picture(NamedTuple):
    image: np.ndarray  # uint8 [28, 28]
    warning: str  # why its answer is not to be trusted; empty where nothing speaks against it


def find_pictures(folder: Path) -> list[Path]:
    """The files in `folder` and its subfolders, by path, without what .dvcignore keeps from DVC."""

    def fail(error: OSError) -> NoReturn:
        raise error

    found = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if links := [name for name in folders if Path(parent, name).is_symlink()]:
            name = printable(Path(parent, links[0]))
            sys.exit(f"{name}: a link to a folder, which is not followed; put its pictures in its place")
        found += [Path(parent, name) for name in files if not name.startswith(".") and name not in CLUTTER]
    return sorted(found)


def printable(path: Path) -> str:
    """The path in one line, quoted where it has characters that cannot be shown."""
    return str(path) if str(path).isprintable() else repr(str(path))


def read_pictures(files: Sequence[Path]) -> tuple[dict[Path, Picture], list[str]]:
    """Each picture, and a line for each of those that cannot be read."""
    pictures, errors = {}, []
    for file in files:
        try:
            pictures[file] = read_picture(file)
        except UnidentifiedImageError:
            errors.append(f"{printable(file)}: not a picture in a format that Pillow reads; convert it to JPEG or PNG")
        except Exception as error:  # damaged files raise any
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            errors.append(f"{printable(file)}: cannot be read as a picture ({reason}); replace or remove it")
    return pictures, errors


def read_picture(file: Path) -> Picture:
    """The picture as the dataset has its images: a bright garment that fills a black square.

    After the rule that made the dataset (Xiao et al., 2017, section 2): the longer side becomes 28 pixels, and outlines
    are sharpened. A picture of 28x28 pixels on black is taken as it is.
    """
    picture = open_picture(file)
    grey = np.asarray(picture.convert("L"))
    corners = grey[[0, 0, -1, -1], [0, -1, 0, -1]]
    if picture.size == SIZE and np.sort(corners)[1] <= BLACK:  # two of them, for a garment may reach into the others
        return Picture(grey, "")
    brightness, warning = find_garment(np.asarray(picture, np.float32))
    bright = Image.fromarray(brightness)
    bright = bright.crop(bright.getbbox())
    bright.thumbnail(SIZE)  # which leaves a thin garment a pixel; what is smaller, pad enlarges
    image = ImageOps.pad(bright, SIZE).filter(ImageFilter.UnsharpMask(radius=1, percent=50, threshold=0))
    return Picture(np.asarray(image), warning)


def open_picture(file: Path) -> Image.Image:
    """The picture in RGB, upright, and so small that noise is averaged away.

    What is transparent becomes white, or black if the rest is light. Raises OSError, ValueError and, where the file is
    damaged, any error.
    """
    if not S_ISREG(file.stat().st_mode):
        raise ValueError("not a regular file")
    # Not by its path: then Pillow maps some files into memory, and an image that lies on its side is scrambled.
    with file.open("rb") as content, Image.open(content) as picture:
        pixels = prod(picture.size)
        picture.draft(None, SMALL)  # a large JPEG is read in a fraction of the time
        if (pixels if "progressive" in picture.info else prod(picture.size)) > MOST:  # that one is held whole
            raise ValueError(f"its {pixels:,} pixels may not fit into memory")
        picture.load()
        with suppress(Exception):  # what damaged EXIF data raise, some of them once the picture is upright
            ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):
        picture = to_8_bits(picture)
    if picture.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    picture = picture if picture.mode == mode else picture.convert(mode)
    picture.thumbnail(SMALL)
    if mode == "RGBA":
        seen = np.asarray(picture.convert("L"))[np.asarray(picture.getchannel("A")) > 127]
        ground = "black" if seen.size and np.median(seen) > 127 else "white"
        picture = Image.alpha_composite(Image.new(mode, picture.size, ground), picture).convert("RGB")
    return picture


def to_8_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of more than 8 bits in 8; Pillow's own conversion would clip it.

    Its depth is the smallest of the usual ones that holds its values.
    """
    values = np.asarray(picture)
    least, most = min(0, int(values.min())), int(values.max())
    white = next(2**bits - 1 for bits in (8, 10, 12, 14, 16, 32) if most - least < 2**bits)
    raised = values - np.int64(least) if least else values  # in eight bytes each only where it must be
    grey = Image.fromarray((raised // (white // 255)).astype(np.uint8))
    if "transparency" in picture.info:
        grey.putalpha(Image.fromarray(255 * (values != picture.info["transparency"]).astype(np.uint8)))
    return grey

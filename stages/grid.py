"""Pictures in a grid, to be looked at."""

from collections.abc import Sequence
import io
from math import ceil
from pathlib import Path

from files import write
from PIL import Image, ImageDraw, ImageFont, ImageOps

COLUMNS = 4  # as many as a phone shows in readable size
SIDE, MARGIN, CAPTION = 84, 4, 34  # of a picture, around it, and below it: pixels
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
CELL = (SIDE + 2 * MARGIN, SIDE + 2 * MARGIN + CAPTION)


def draw_cell(picture: Image.Image, caption: str) -> Image.Image:
    """The picture above its caption of two lines."""
    cell = Image.new("RGB", CELL)
    cell.paste(ImageOps.pad(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BOX), (MARGIN, MARGIN))
    font = ImageFont.load_default(12)
    lines = [fit(line, font) for line in caption.splitlines()]
    ImageDraw.Draw(cell).text((MARGIN, SIDE + MARGIN), "\n".join(lines), font=font)
    return cell


def fit(line: str, font: Font) -> str:
    """The line with escapes for letters outside ASCII, which the font lacks, cut to the width of a picture."""
    text = line.encode("ascii", "backslashreplace").decode()
    while font.getlength(text) > SIDE:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def write_grid(file: Path, cells: Sequence[Image.Image]) -> None:
    """Write the cells as one PNG, in rows."""
    width, height = CELL
    grid = Image.new("RGB", (COLUMNS * width, max(1, ceil(len(cells) / COLUMNS)) * height))
    for number, cell in enumerate(cells):
        grid.paste(cell, (number % COLUMNS * width, number // COLUMNS * height))
    content = io.BytesIO()
    grid.save(content, "PNG")
    write(file, content.getvalue())

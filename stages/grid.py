"""Pictures in a grid, to be looked at."""

import io
from collections.abc import Sequence
from pathlib import Path

from files import write
from PIL import Image, ImageDraw, ImageFont, ImageOps

COLUMNS = 4  # as many as a phone shows in readable size
SIDE, MARGIN, CAPTION = 84, 4, 34  # of a picture, around it, and below it: pixels


def draw_grid(file: Path, cells: Sequence[tuple[Image.Image, str]]) -> None:
    """Write the pictures as one PNG, each above its caption of two lines; a longer line is cut off."""
    width, height = SIDE + 2 * MARGIN, SIDE + 2 * MARGIN + CAPTION
    font = ImageFont.load_default(12)
    grid = Image.new("RGB", (COLUMNS * width, max(1, -(-len(cells) // COLUMNS)) * height))
    for number, (picture, caption) in enumerate(cells):
        cell = Image.new("RGB", (width, height))
        cell.paste(ImageOps.pad(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BOX), (MARGIN, MARGIN))
        ImageDraw.Draw(cell).text((MARGIN, SIDE + MARGIN), caption, font=font)
        grid.paste(cell, (number % COLUMNS * width, number // COLUMNS * height))
    content = io.BytesIO()
    grid.save(content, "PNG")
    write(file, content.getvalue())

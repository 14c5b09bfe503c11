"""Pictures in a grid, to be looked at."""

from collections.abc import Sequence
import io
from pathlib import Path

from files import write
from PIL import Image, ImageDraw, ImageFont, ImageOps

COLUMNS = 4  # as many as a phone shows in readable size
SIDE, MARGIN, CAPTION = 84, 4, 34  # of a picture, around it, and below it: pixels
CELL = (SIDE + 2 * MARGIN, SIDE + 2 * MARGIN + CAPTION)


def draw_cell(picture: Image.Image, caption: str) -> Image.Image:
    """The picture above its caption of two lines; a longer line is cut off."""
    cell = Image.new("RGB", CELL)
    cell.paste(ImageOps.pad(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BOX), (MARGIN, MARGIN))
    ImageDraw.Draw(cell).text((MARGIN, SIDE + MARGIN), caption, font=ImageFont.load_default(12))
    return cell


def write_grid(file: Path, cells: Sequence[Image.Image]) -> None:
    """Write the cells as one PNG, in rows."""
    width, height = CELL
    grid = Image.new("RGB", (COLUMNS * width, max(1, -(-len(cells) // COLUMNS)) * height))
    for number, cell in enumerate(cells):
        grid.paste(cell, (number % COLUMNS * width, number // COLUMNS * height))
    content = io.BytesIO()
    grid.save(content, "PNG")
    write(file, content.getvalue())

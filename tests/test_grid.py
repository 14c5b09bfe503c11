"""Captions under pictures show every letter and end where the picture does."""

from grid import SIDE, fit
from PIL import ImageFont
import pytest

FONT = ImageFont.load_default(12)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Ankle boot", "Ankle boot"),
        ("Ärmel", "\\xc4rmel"),
        ("신발", "\\uc2e0\\ubc1c"),
        ("b\udce9.png", "b\\udce9.png"),
        ("", ""),
    ],
)
def test_a_letter_that_the_font_lacks_is_escaped(line: str, shown: str) -> None:
    assert fit(line, FONT) == shown


def test_a_long_line_ends_with_an_ellipsis_at_the_edge_of_its_picture() -> None:
    shown = fit("100% a class with a very long name", FONT)
    assert shown.startswith("100% a class")
    assert shown.endswith("…")
    assert SIDE - 10 < FONT.getlength(shown) <= SIDE

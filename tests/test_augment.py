"""Each augmentation does to every image what it says."""

import augment
import pytest
import torch

IMAGES = torch.rand(500, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_flip_mirrors_the_images_that_are_marked() -> None:
    marked = torch.arange(500) % 3 == 0
    flipped = augment.flip(IMAGES, marked)
    assert torch.equal(flipped[~marked], IMAGES[~marked])
    assert torch.equal(flipped[marked], IMAGES[marked].flip(-1))


def test_shift_moves_each_image_as_a_whole_and_lets_black_in() -> None:
    shifted = augment.shift(IMAGES, 2)
    assert shifted.shape == IMAGES.shape
    moves = set()
    for image, moved in zip(IMAGES[:, 0], shifted[:, 0], strict=True):
        padded = torch.nn.functional.pad(image, [2] * 4)
        [move] = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if torch.equal(padded[row : row + 28, column : column + 28], moved)
        ]
        moves.add(move)
    assert len(moves) == 25

"""Each augmentation does to every image what it says, and draws anew for each."""

import augment
import pytest
import torch

IMAGES = torch.rand(500, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_flip_mirrors_half_of_the_images() -> None:
    flipped = augment.flip(IMAGES)
    mirrored = (flipped == IMAGES.flip(-1)).all((1, 2, 3))
    assert torch.equal(flipped[~mirrored], IMAGES[~mirrored])
    assert 200 < mirrored.sum() < 300


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


def test_erase_fills_a_rectangle_with_noise_in_that_share_of_the_images() -> None:
    erased = (augment.erase(IMAGES, 0.5) != IMAGES)[:, 0]
    changed = erased.any(2).any(1)
    assert 200 < changed.sum() < 300
    for mask in erased[changed]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    shares = erased[changed].double().mean((1, 2))
    assert shares.min() > 0.005
    assert shares.max() < 0.4

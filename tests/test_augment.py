"""Each augmentation does to every image what it says."""

import augment
import pytest
import torch

IMAGES = torch.rand(500, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_flip_mirrors_the_images_named() -> None:
    mirrored = torch.arange(500) % 3 == 0
    flipped = augment.flip(IMAGES, mirrored)
    assert torch.equal(flipped[~mirrored], IMAGES[~mirrored])
    assert torch.equal(flipped[mirrored], IMAGES[mirrored].flip(-1))


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
    images = (255 * IMAGES).to(torch.uint8)
    changes = (augment.erase(images, 0.5).int() - images.int())[:, 0]
    erased = changes.any(2).any(1)
    assert 200 < erased.sum() < 300
    shares = []
    for mask in (changes != 0)[erased]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert inside.double().mean() > 0.9  # noise may hit what was there
        shares.append(inside.numel() / 28**2)
    assert min(shares) > 0.015
    assert max(shares) < 0.4
    noise = augment.erase(torch.zeros_like(images), 0.5)
    assert noise[noise > 0].double().std() > 60  # 74 of values equally likely

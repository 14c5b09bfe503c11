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


def test_cutmix_puts_a_rectangle_of_another_image_into_each_of_a_batch_and_mixes_their_classes_by_its_area() -> None:
    images = torch.arange(1000).view(1000, 1, 1, 1).expand(1000, 1, 28, 28)  # each of a colour of its own
    labels = torch.arange(1000) % 10
    mixed, probabilities = augment.cutmix(images, labels, 50, 0.5)
    foreign = (mixed != images)[:, 0]
    assert torch.equal(foreign, foreign.any(1, keepdim=True) & foreign.any(2, keepdim=True))
    assert all(len(set(image.tolist())) <= 2 for image in mixed.flatten(1))
    shares = torch.nn.functional.one_hot(labels[mixed.flatten(1)], 10).float().mean(1)
    assert torch.allclose(probabilities, shares, atol=1e-6)
    in_batch = foreign.flatten(1).any(1).view(20, 50)
    assert torch.equal(in_batch.all(1), in_batch.any(1))
    assert 4 < in_batch.all(1).sum() < 16

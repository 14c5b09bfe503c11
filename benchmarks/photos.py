"""Prints the accuracy of model.pth on test images, and on photographs made of them.

PYTHONPATH=stages:tools python benchmarks/photos.py
"""

from pathlib import Path
import sys
from tempfile import TemporaryDirectory

import cyclopts
from dataset import read_split
import numpy as np
from pictures import read_pictures
from PIL import Image
from recipe import accuracy
import torch


def photos(*, count: int = 500) -> None:
    """Fails if the first `count` test images lose more than 3 points of accuracy as photographs."""
    images, labels = (tensor[:count] for tensor in read_split(Path("data/FashionMNIST"), "t10k"))
    random = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.jpg") for number in range(count)]
        for file, image in zip(files, images, strict=True):
            photograph(image[0].numpy(), random).save(file, quality=int(random.integers(70, 96)))
        pictures = torch.stack([picture.image for picture in read_pictures(files)[0].values()])
    accuracies = [accuracy(inputs, labels) for inputs in (images, pictures)]
    print("accuracy on {} test images {:.4f}, on photographs of them {:.4f}".format(count, *accuracies))
    sys.exit(accuracies[0] - accuracies[1] > 0.03)


def photograph(image: np.ndarray, random: np.random.Generator) -> Image.Image:
    """An image of the dataset, uint8 [28, 28], as a large noisy picture in colour, somewhere on a light background."""
    side = int(random.integers(400, 1200))
    background = random.integers(225, 256, 3)
    tint = random.normal(0, 12, 3)
    garment = np.asarray(Image.fromarray(255 - image).resize((side, side)))[:, :, None] / 255
    colours = (garment * background + (1 - garment) * tint).clip(0, 255).astype(np.uint8)
    size = (random.uniform(1.05, 2, 2) * side).astype(int)
    photo = Image.new("RGB", tuple(size.tolist()), tuple(background.tolist()))
    photo.paste(Image.fromarray(colours), tuple(random.integers(size - side + 1).tolist()))
    return Image.fromarray((np.asarray(photo) + random.normal(0, 6, (*size[::-1], 1))).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    cyclopts.run(photos)

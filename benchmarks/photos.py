"""Prints the accuracy of model.pth on photographs, sorted into a folder for each class, or on synthetic ones.

python benchmarks/photos.py my-photos   # my-photos/Ankle boot/….jpg, my-photos/Bag/….jpg, …
python benchmarks/photos.py             # large noisy pictures made of test images
"""

from pathlib import Path
import sys
from tempfile import TemporaryDirectory

sys.path.insert(1, str(Path(__file__).parent.parent / "stages"))

from command import run
from answer import accuracy, answer
from dataset import read_split
from dvc.api import params_show
from evaluate import reliability, score_classes
from grid import draw_cell, write_grid
import numpy as np
from pictures import find_pictures, open_picture, read_pictures
from PIL import Image
from predict import to_tensor
import torch

SHEET = Path("photos.png")


def photos(folder: Path | None = None, /, *, count: int = 500) -> None:
    """Measure the photographs in `folder`, and draw them into photos.png.

    Without a folder, fail if the first `count` test images lose more than 3 points of accuracy as photographs.
    """
    if folder:
        measure(folder)
        return
    images, labels = (tensor[:count] for tensor in read_split(Path("data/FashionMNIST"), "t10k"))
    random = np.random.default_rng(0)
    with TemporaryDirectory() as scratch:
        files = [Path(scratch, f"{number}.jpg") for number in range(count)]
        for file, image in zip(files, images, strict=True):
            photograph(image[0].numpy(), random).save(file, quality=int(random.integers(70, 96)))
        pictures = to_tensor(read_pictures(files)[0].values())
    accuracies = [accuracy(inputs, labels) for inputs in (images, pictures)]
    print("accuracy on {} test images {:.4f}, on photographs of them {:.4f}".format(count, *accuracies))
    sys.exit(accuracies[0] - accuracies[1] > 0.03)


def measure(folder: Path) -> None:
    """Print accuracy, by warning, by class and by confidence; a folder's name is its class, "-" in the place of "/"."""
    names = params_show()["labels"]["classes"]
    folders = {name.replace("/", "-"): label for label, name in enumerate(names)}
    places = {file: file.relative_to(folder).parts[0] for file in find_pictures(folder)}
    if unknown := sorted(set(places.values()) - folders.keys()):
        sys.exit(f"{folder}: {', '.join(unknown)}: no class; name a folder for each of {', '.join(folders)}")
    read, errors = read_pictures(list(places))
    for error in errors:
        print(error, file=sys.stderr)
    if not read:
        sys.exit(f"{folder}: no photographs")
    labels = torch.tensor([folders[places[file]] for file in read])
    confidences, guesses = answer(to_tensor(read.values())).softmax(1).max(1)
    right = guesses == labels
    warned = torch.tensor([bool(picture.warning) for picture in read.values()])
    print("| photographs | number | accuracy |")
    for name, rows in {"all": torch.ones_like(warned), "without a warning": ~warned, "with a warning": warned}.items():
        if rows.any():
            print(f"| {name} | {int(rows.sum())} | {right[rows].double().mean():.3f} |")
    print("| class | number | precision | recall | F1 | most often taken for |")
    for name, precision, recall, f1 in score_classes(names, labels, guesses):
        if (own := labels == names.index(name)).any():
            wrong = [names[guess] for guess in guesses[own & ~right].tolist()]
            most = max(set(wrong), key=wrong.count, default="")
            print(f"| {name} | {int(own.sum())} | {precision} | {recall} | {f1} | {most} |")
    print("| mean confidence | number | accuracy |")
    for confidence, share, size in reliability(confidences, right, bins=5):
        print(f"| confidence {confidence:.2f} | {size} | {share:.3f} |")
    cells = []
    for number, (file, picture) in enumerate(read.items()):
        cells.append(draw_cell(open_picture(file), f"{names[labels[number]]}\n{picture.warning}"))
        caption = f"{'' if right[number] else 'not '}{names[guesses[number]]}\n{confidences[number]:.0%}"
        cells.append(draw_cell(Image.fromarray(picture.image), caption))
    write_grid(SHEET, cells)
    print(f"Wrote {SHEET}")


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
    run(photos, required=False)

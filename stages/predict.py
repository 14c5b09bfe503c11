"""model.pth, pictures → predictions.csv."""

import sys
from pathlib import Path

import numpy as np
import torch
from command import Classes, Count, NonNegative, Threads, run
from dataset import read_split
from files import write_csv
from model import Device, Network, infer, load, set_up
from PIL import Image, ImageOps
from torch import Tensor


def predict(
    dataset: Path,
    model_file: Path,
    pictures: Path,
    predictions_file: Path,
    /,
    *,
    index: NonNegative,
    classes: Classes,
    test_time_flip: bool,
    network: Network,
    hidden_size: Count,
    width: Count,
    blocks: NonNegative,
    device: Device,
    threads: Threads,
) -> None:
    """Print the predicted class of the test image at `index`, and write that of every picture in the folder."""
    on = set_up(device, threads)
    images, labels = read_split(dataset, "t10k")
    if index >= len(labels):
        sys.exit(f"--index {index}: the test split has the images 0 to {len(labels) - 1}")
    files = sorted(path for path in pictures.rglob("*") if path.is_file() and not is_hidden(path.relative_to(pictures)))
    inputs = torch.stack([images[index], *(read_picture(file) for file in files)])
    model = load(model_file, network, hidden_size, width, blocks).to(on)
    probabilities = infer(model, inputs.to(on), test_time_flip).softmax(1).cpu()
    confidences, guesses = probabilities.max(1)

    print(f'Predicted: "{classes[guesses[0]]}", Actual: "{classes[labels[index]]}"')
    rows = [
        (file.relative_to(pictures).as_posix(), classes[guess], f"{confidence:.4f}")
        for file, guess, confidence in zip(files, guesses[1:], confidences[1:], strict=True)
    ]
    write_csv(predictions_file, [("file", "predicted", "confidence"), *rows])
    for file, guess, confidence in rows:
        print(f'{file}: "{guess}" with confidence {confidence}')


def is_hidden(path: Path) -> bool:
    """Whether .dvcignore keeps the picture out of the stage's deps."""
    return any(part.startswith(".") for part in path.parts)


def read_picture(file: Path) -> Tensor:
    """The picture as the dataset has them: uint8 [1, 28, 28], light on a dark ground."""
    try:
        with Image.open(file) as picture:
            grey = ImageOps.pad(ImageOps.exif_transpose(picture).convert("L"), (28, 28))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        sys.exit(f"{file}: cannot be read as a picture ({error}); replace or remove it")
    return torch.from_numpy(np.array(grey))[None]


if __name__ == "__main__":
    run(predict)

"""model.pth, pictures → predictions.csv, predictions.png."""

import sys
from contextlib import redirect_stdout
from json import dumps
from pathlib import Path

import torch
from command import Blocks, Classes, NonNegative, Pixels, Rank, Size, Threads, Width, run
from dataset import read_split
from files import write_csv
from grid import draw_cell, write_grid
from model import Device, Network, infer, load, set_up
from pictures import find_pictures, open_picture, printable, read_pictures
from PIL import Image
from torch import Tensor

CELLS = 100  # of the grid, at most: two for a picture


def predict(
    dataset: Path,
    model_file: Path,
    pictures: Path,
    predictions_file: Path,
    grid_file: Path,
    /,
    *,
    index: NonNegative,
    top: Rank,
    classes: Classes,
    test_time_flip: bool,
    test_time_shift: Pixels,
    network: Network,
    hidden_size: Size,
    width: Width,
    blocks: Blocks,
    device: Device,
    threads: Threads,
) -> None:
    """Print the predicted class of the test image at `index`, and write the likeliest of every picture in the folder.

    For pictures anywhere, without dataset and pipeline: `python stages/predict.py classify model.pth PICTURE…`
    """
    on = set_up(device, threads)
    images, labels = read_split(dataset, "t10k")
    if index >= len(labels):
        sys.exit(f"--index {index}: the test split has the images 0 to {len(labels) - 1}")
    files = find_pictures(pictures)
    inputs = torch.cat([images[index : index + 1], read_pictures(files)])
    model = load(model_file, network, hidden_size, width, blocks).to(on)
    rankings = rank(infer(model, inputs.to(on), test_time_flip, test_time_shift), classes, top)

    print(f'Predicted: "{rankings[0][0][0]}", Actual: "{classes[labels[index]]}"')
    rows = [("file", "rank", "class", "probability")]
    cells: list[Image.Image] = []
    for file, image, ranking in zip(files, inputs[1:], rankings[1:], strict=True):
        name = file.relative_to(pictures)
        print(described(name, ranking))
        rows += [(name.as_posix(), str(n), guess, f"{share:.4f}") for n, (guess, share) in enumerate(ranking, start=1)]
        if len(cells) < CELLS:
            guess, share = ranking[0]
            cells.append(draw_cell(open_picture(file), file.name))
            cells.append(draw_cell(Image.fromarray(image[0].numpy()), f"{guess}\n{share:.0%}"))
    if not files:
        print(f"{pictures}: no pictures in it")
    write_grid(grid_file, cells)
    write_csv(predictions_file, rows)


def classify(
    model_file: Path,
    /,
    *pictures: Path,
    json: bool = False,
    top: Rank,
    classes: Classes,
    test_time_flip: bool,
    test_time_shift: Pixels,
    network: Network,
    hidden_size: Size,
    width: Width,
    blocks: Blocks,
    device: Device,
    threads: Threads,
) -> None:
    """Print the likeliest classes of pictures, with --json as a line of JSON each.

    A folder stands for the pictures in it and its subfolders. What is not given is as in params.yaml.
    """
    with redirect_stdout(sys.stderr):  # a program may read what is printed
        on = set_up(device, threads)
    files = [file for path in pictures for file in (find_pictures(path) if path.is_dir() else [path])]
    if not files:
        sys.exit(f"classify: no pictures; name files, or folders with pictures in them, after {model_file}")
    inputs = read_pictures(files)
    model = load(model_file, network, hidden_size, width, blocks).to(on)
    rankings = rank(infer(model, inputs.to(on), test_time_flip, test_time_shift), classes, top)
    for file, ranking in zip(files, rankings, strict=True):
        answers = [{"class": guess, "probability": round(share, 4)} for guess, share in ranking]
        print(dumps({"file": str(file), "classes": answers}) if json else described(file, ranking))


def rank(logits: Tensor, classes: list[str], top: int) -> list[list[tuple[str, float]]]:
    """The `top` likeliest classes and their probabilities, for each row of the logits [N, 10]."""
    probabilities, labels = logits.softmax(1).topk(top)
    return [
        [(classes[label], probability) for label, probability in zip(*row, strict=True)]
        for row in zip(labels.tolist(), probabilities.tolist(), strict=True)
    ]


def described(file: Path, ranking: list[tuple[str, float]]) -> str:
    return f"{printable(file)}: " + ", ".join(f'"{guess}" {share:.4f}' for guess, share in ranking)


if __name__ == "__main__":
    run(predict, classify)

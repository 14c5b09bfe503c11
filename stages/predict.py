"""data/FashionMNIST, model.pth, data/pictures → predictions.csv, predictions.png."""

from collections.abc import Iterable
from pathlib import Path
import sys
from typing import Annotated

from command import number, run, section
from compute import Compute, place, set_up
from dataset import read_split
from files import write_csv
from grid import draw_cell, write_grid
from infer import Infer, Labels, average_logits, load
from model import Model
import numpy as np
from pictures import Picture, find_pictures, open_picture, printable, read_pictures
from PIL import Image
import torch
from torch import Tensor

CELLS = 100  # of the grid: two for a picture; one more says how many are left out
Top = Annotated[int, number(gte=1, lte=10)]


@section
class Predict:
    index: Annotated[int, number(gte=0)]
    top: Top


def predict(
    dataset: Path,
    model_file: Path,
    pictures: Path,
    predictions_file: Path,
    grid_file: Path,
    /,
    *,
    predict: Predict,
    infer: Infer,
    labels: Labels,
    model: Model,
    compute: Compute,
) -> None:
    """Print the predicted class of the test image at `index`; write the most likely classes of each picture."""
    device = set_up(compute)
    images, targets = read_split(dataset, "t10k")
    if predict.index >= len(targets):
        sys.exit(f"--index {predict.index}: the test split has the images 0 to {len(targets) - 1}")
    read, errors = read_pictures(find_pictures(pictures))
    if errors:
        sys.exit("\n".join(errors))
    inputs = torch.cat([images[predict.index][None], to_tensor(read.values())])
    network = place(load(model_file, model), compute, device)
    rankings = rank_classes(average_logits(network, inputs.to(device), infer), labels.classes, predict.top)

    print(f'Predicted: "{rankings[0][0][0]}", Actual: "{labels.classes[targets[predict.index]]}"')
    rows: list[tuple[object, ...]] = [("file", "rank", "class", "probability", "warning")]
    cells: list[Image.Image] = []
    for (file, (image, warning)), ranking in zip(read.items(), rankings[1:], strict=True):
        name = file.relative_to(pictures)
        print(describe(name, ranking, warning))
        for position, (guess, share) in enumerate(ranking, start=1):
            rows.append((name.as_posix(), position, guess, f"{share:.4f}", warning))
        if len(cells) < CELLS:
            guess, share = ranking[0]
            cells.append(draw_cell(open_picture(file), file.name))
            cells.append(draw_cell(Image.fromarray(image), f"{guess}\n{share:.0%}"))
    if (more := len(read) - CELLS // 2) > 0:
        cells.append(draw_cell(Image.new("L", (1, 1)), f"and {more} more in\n{predictions_file.name}"))
    if not read:
        print(f"{pictures}: no pictures in it")
    write_grid(grid_file, cells)
    write_csv(predictions_file, rows)


def to_tensor(pictures: Iterable[Picture]) -> Tensor:
    """The images of the pictures, uint8 [N, 1, 28, 28]."""
    return torch.from_numpy(np.array([picture.image for picture in pictures], np.uint8).reshape(-1, 1, 28, 28))


def rank_classes(logits: Tensor, classes: list[str], top: int) -> list[list[tuple[str, float]]]:
    """The `top` most likely classes and their probabilities, for each row of the logits [N, 10]."""
    probabilities, labels = logits.softmax(1).topk(top)
    return [
        [(classes[label], probability) for label, probability in zip(*row, strict=True)]
        for row in zip(labels.tolist(), probabilities.tolist(), strict=True)
    ]


def describe(file: Path, ranking: list[tuple[str, float]], warning: str) -> str:
    """The line that is printed for a picture."""
    answers = ", ".join(f'"{guess}" {share:.4f}' for guess, share in ranking)
    return f"{printable(file)}: {answers}" + (f" ({warning})" if warning else "")


if __name__ == "__main__":
    run(predict)

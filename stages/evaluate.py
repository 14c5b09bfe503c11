"""data/FashionMNIST, model.pth → metrics.json, confusion.csv, classes.csv, reliability.csv, mistakes.png."""

from pathlib import Path

from command import run
from compute import Compute, place, set_up
from dataset import read_split
from files import write_csv, write_json
from grid import draw_cell, write_grid
from infer import Infer, Labels, average_logits, load
from model import Model
from PIL import Image
import torch
from torch import Tensor, nn


def evaluate(
    dataset: Path,
    model_file: Path,
    metrics_file: Path,
    confusion_file: Path,
    classes_file: Path,
    reliability_file: Path,
    mistakes_file: Path,
    /,
    *,
    infer: Infer,
    labels: Labels,
    model: Model,
    compute: Compute,
) -> None:
    """Measure the model on the test split, and draw its most confident mistakes."""
    device = set_up(compute)
    images, targets = read_split(dataset, "t10k")
    network = place(load(model_file, model), compute, device)
    logits = average_logits(network, images.to(device), infer).cpu()
    confidences, predicted = logits.softmax(1).max(1)
    right = predicted == targets
    accuracy = right.double().mean().item()
    loss = nn.functional.cross_entropy(logits, targets).item()
    bins = reliability(confidences, right)
    calibration_error = sum(size * abs(mean - share) for mean, share, size in bins) / len(targets)
    metrics = {  # rounded to the digits that mean something
        "accuracy": round(accuracy, 4),
        "accuracy_standard_error": float(f"{(accuracy * (1 - accuracy) / len(targets)) ** 0.5:.2g}"),
        "loss": round(loss, 4),
        "expected_calibration_error": float(f"{calibration_error:.2g}"),
    }
    write_json(metrics_file, metrics)
    names = labels.classes
    write_csv(classes_file, [("class", "precision", "recall", "f1"), *score_classes(names, targets, predicted)])
    answers = [(names[target], names[guess]) for target, guess in zip(targets, predicted, strict=True)]
    write_csv(confusion_file, [("actual", "predicted"), *answers])
    write_csv(reliability_file, [("confidence", "accuracy", "images"), *bins])

    wrong = (~right).nonzero()[:, 0]
    mistakes = wrong[confidences[wrong].argsort(descending=True, stable=True)][:24]
    draw_answers(mistakes_file, images[mistakes], names, targets[mistakes], logits[mistakes])
    print(f"Test Error: \n Accuracy: {100 * accuracy:>0.1f}%, Avg loss: {loss:>8f} \n")


def draw_answers(file: Path, images: Tensor, names: list[str], targets: Tensor, logits: Tensor) -> None:
    """Draw the images, each above its confidence, its predicted class and its actual class."""
    cells = []
    for image, target, probabilities in zip(images, targets, logits.softmax(1), strict=True):
        confidence, predicted = probabilities.max(0)
        caption = f"{confidence:.0%} {names[predicted]}\nis {names[target]}"
        cells.append(draw_cell(Image.fromarray(image[0].numpy()), caption))
    write_grid(file, cells)


def score_classes(names: list[str], targets: Tensor, predicted: Tensor) -> list[tuple[str, ...]]:
    """The name of each class with its precision, its recall and its F1."""
    count = len(names)
    confusion = torch.bincount(targets * count + predicted, minlength=count**2).view(count, count).double()
    hits, actual, answered = confusion.diag(), confusion.sum(1), confusion.sum(0)
    # A class that is never predicted, or never occurs, has no hits either: its ratios are 0, not 0/0.
    ratios = hits / answered.clamp(min=1), hits / actual.clamp(min=1), 2 * hits / (answered + actual).clamp(min=1)
    rows = torch.stack(ratios, dim=1).tolist()
    return [(name, *(f"{ratio:.4f}" for ratio in row)) for name, row in zip(names, rows, strict=True)]


def reliability(confidences: Tensor, right: Tensor, bins: int = 15) -> list[tuple[float, float, int]]:
    """The mean confidence, the accuracy and the number of the answers in each of equally wide bins of confidence.

    As Guo et al. (2017) draw them; a bin without answers is left out. Their mean distance is the calibration error.
    """
    numbers = (confidences * bins).long().clamp(max=bins - 1)
    return [
        (confidences[inside].double().mean().item(), right[inside].double().mean().item(), int(inside.sum()))
        for inside in (numbers == number for number in numbers.unique())
    ]


if __name__ == "__main__":
    run(evaluate)

"""data/FashionMNIST, model.pth → metrics.json, confusion.csv, classes.csv, reliability.csv, mistakes.png."""

from pathlib import Path

import torch
from command import Blocks, Classes, Pixels, Size, Threads, Width, run
from dataset import read_split
from files import write_csv, write_json
from grid import draw_cell, write_grid
from model import Device, Network, infer, load, set_up
from PIL import Image
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
    """Measure the model on the test split, and draw its most confident mistakes.

    Metrics are the accuracy, the mean loss of an image, and the expected calibration error; tables have each class's
    precision, recall and F1, every answer, and the accuracy at each confidence.
    """
    on = set_up(device, threads)
    images, labels = read_split(dataset, "t10k")
    model = load(model_file, network, hidden_size, width, blocks).to(on)
    logits = infer(model, images.to(on), test_time_flip, test_time_shift).cpu()
    confidences, predicted = logits.softmax(1).max(1)
    right = predicted == labels
    accuracy = right.double().mean().item()
    loss = nn.functional.cross_entropy(logits, labels).item()

    count = len(classes)
    confusion = torch.bincount(labels * count + predicted, minlength=count * count).view(count, count).double()
    hits = confusion.diag()
    # A class that is never predicted, or never occurs, has no hits either: its ratios are 0, not 0/0.
    precision = hits / confusion.sum(0).clamp(min=1)
    recall = hits / confusion.sum(1).clamp(min=1)
    f1 = 2 * hits / (confusion.sum(0) + confusion.sum(1)).clamp(min=1)
    ratios = torch.stack([precision, recall, f1], dim=1).tolist()
    table = [(name, *(f"{ratio:.4f}" for ratio in row)) for name, row in zip(classes, ratios, strict=True)]
    write_csv(classes_file, [("class", "precision", "recall", "f1"), *table])
    guesses = [(classes[label], classes[guess]) for label, guess in zip(labels, predicted, strict=True)]
    write_csv(confusion_file, [("actual", "predicted"), *guesses])

    bins = reliability(confidences, right)
    write_csv(reliability_file, [("confidence", "accuracy", "images"), *(map(str, values) for values in bins)])
    calibration_error = sum(size * abs(confidence - share) for confidence, share, size in bins) / len(labels)
    error = (accuracy * (1 - accuracy) / len(labels)) ** 0.5
    metrics = {"accuracy": accuracy, "accuracy_standard_error": error, "loss": loss}
    write_json(metrics_file, metrics | {"expected_calibration_error": calibration_error})

    wrong = (~right).nonzero()[:, 0]
    mistakes = wrong[confidences[wrong].argsort(descending=True, stable=True)][:24]
    cells = [
        draw_cell(
            Image.fromarray(images[number, 0].numpy()),
            f"{classes[predicted[number]]} {confidences[number]:.0%}\nis {classes[labels[number]]}",
        )
        for number in mistakes
    ]
    write_grid(mistakes_file, cells)
    print(f"Test Error: \n Accuracy: {100 * accuracy:>0.1f}%, Avg loss: {loss:>8f} \n")


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

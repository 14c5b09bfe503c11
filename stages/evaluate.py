"""data/FashionMNIST, model.pth → metrics.json, confusion.csv, classes.csv."""

from pathlib import Path

import torch
from command import Classes, Count, NonNegative, Threads, run
from dataset import read_split
from files import write_csv, write_json
from model import Device, Network, infer, load, set_up
from torch import nn


def evaluate(
    dataset: Path,
    model_file: Path,
    metrics_file: Path,
    confusion_file: Path,
    classes_file: Path,
    /,
    *,
    classes: Classes,
    test_time_flip: bool,
    network: Network,
    hidden_size: Count,
    width: Count,
    blocks: NonNegative,
    device: Device,
    threads: Threads,
) -> None:
    """Measure the model on the test split: accuracy, mean loss of an image, and each class's precision, recall, F1."""
    on = set_up(device, threads)
    images, labels = read_split(dataset, "t10k")
    logits = infer(load(model_file, network, hidden_size, width, blocks).to(on), images.to(on), test_time_flip).cpu()
    predicted = logits.argmax(1)
    accuracy = (predicted == labels).double().mean().item()
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
    error = (accuracy * (1 - accuracy) / len(labels)) ** 0.5
    write_json(metrics_file, {"accuracy": accuracy, "accuracy_standard_error": error, "loss": loss})
    print(f"Test Error: \n Accuracy: {100 * accuracy:>0.1f}%, Avg loss: {loss:>8f} \n")


if __name__ == "__main__":
    run(evaluate)

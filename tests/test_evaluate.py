"""The metrics say what they are named for."""

import csv
from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import Any, Literal

from convolutional import cnn, resnet
from dataset import read_split
import evaluate as evaluate_module
from evaluate import evaluate, reliability
from model import MLP, Model
from PIL import Image
import pytest
import torch
from torch import nn
from values import COMPUTE, INFER, LABELS, MODEL

Network = Literal["mlp", "cnn", "resnet", "shufflenet_v2_x0_5"]
OUTPUTS = ("metrics.json", "confusion.csv", "classes.csv", "reliability.csv", "mistakes.png")


def evaluated(dataset: Path, folder: Path, model: Model = MODEL) -> None:
    """Evaluate model.pth in the folder there."""
    files = (folder / name for name in OUTPUTS)
    evaluate(dataset, folder / "model.pth", *files, infer=INFER, labels=LABELS, model=model, compute=COMPUTE)


@dataclass
class Results:
    metrics: dict[str, Any]
    confusion: list[dict[str, str]]
    classes: dict[str, dict[str, str]]
    logits: torch.Tensor
    printed: str


@pytest.fixture
def results(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Results:
    """Of a network that never answers class 9."""
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    logits[:, 9] = -10
    torch.save(MLP(32).state_dict(), tmp_path / "model.pth")
    monkeypatch.setattr(evaluate_module, "average_logits", lambda *_: logits)
    evaluated(dataset, tmp_path)
    with (tmp_path / "confusion.csv").open() as confusion, (tmp_path / "classes.csv").open() as classes:
        tables = list(csv.DictReader(confusion)), {row["class"]: row for row in csv.DictReader(classes)}
    return Results(json.loads((tmp_path / "metrics.json").read_text()), *tables, logits, capsys.readouterr().out)


def test_accuracy_and_loss_are_means_over_the_images(results: Results, dataset: Path) -> None:
    _, labels = read_split(dataset, "t10k")
    pairs = list(zip(results.logits, labels, strict=True))
    accuracy = sum(int(logits.argmax() == label) for logits, label in pairs) / 200
    loss = sum(nn.functional.cross_entropy(*pair).item() for pair in pairs) / 200
    assert results.metrics["accuracy"] == accuracy
    assert results.metrics["accuracy_standard_error"] == float(f"{(accuracy * (1 - accuracy) / 200) ** 0.5:.2g}")
    assert results.metrics["loss"] == round(loss, 4)
    assert f"Test Error: \n Accuracy: {100 * accuracy:.1f}%, Avg loss: {loss:.5f}"[:-1] in results.printed


def test_precision_recall_and_f1_follow_from_the_confusion_table(results: Results) -> None:
    for name in LABELS.classes:
        hits = sum(row["actual"] == row["predicted"] == name for row in results.confusion)
        guessed = sum(row["predicted"] == name for row in results.confusion)
        precision = hits / guessed if guessed else 0
        recall = hits / sum(row["actual"] == name for row in results.confusion)
        f1 = 2 * precision * recall / (precision + recall) if hits else 0
        ratios = {"precision": f"{precision:.4f}", "recall": f"{recall:.4f}", "f1": f"{f1:.4f}"}
        assert results.classes[name] == {"class": name} | ratios
    assert results.classes["class 9"]["precision"] == "0.0000"


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_accuracy(
    results: Results, dataset: Path, tmp_path: Path
) -> None:
    _, labels = read_split(dataset, "t10k")
    bins: dict[int, list[tuple[float, bool]]] = {}
    for logits, label in zip(results.logits, labels, strict=True):
        confidence = logits.softmax(0).max().item()
        bins.setdefault(int(confidence * 15), []).append((confidence, bool(logits.argmax() == label)))
    error = sum(abs(sum(confidence - right for confidence, right in answers)) for answers in bins.values()) / 200
    assert results.metrics["expected_calibration_error"] == float(f"{error:.2g}")
    with (tmp_path / "reliability.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["images"]) for row in rows] == [len(bins[number]) for number in sorted(bins)]
    for row, number in zip(rows, sorted(bins), strict=True):
        assert number / 15 <= float(row["confidence"]) <= (number + 1) / 15
        assert float(row["accuracy"]) == pytest.approx(sum(right for _, right in bins[number]) / len(bins[number]))


def test_an_answer_of_full_confidence_belongs_to_the_last_bin() -> None:
    assert reliability(torch.tensor([1.0, 0.99]), torch.tensor([True, False])) == [(pytest.approx(0.995), 0.5, 2)]


def test_the_most_confident_mistakes_are_drawn_in_order(results: Results, dataset: Path, tmp_path: Path) -> None:
    images, labels = read_split(dataset, "t10k")
    confidences, predicted = results.logits.softmax(1).max(1)
    wrong = sorted((predicted != labels).nonzero()[:, 0].tolist(), key=lambda number: -confidences[number])[:24]
    with Image.open(tmp_path / "mistakes.png") as grid:
        for place, number in enumerate(wrong):
            left, top = place % 4 * 92 + 4, place // 4 * 126 + 4
            shown = grid.crop((left, top, left + 84, top + 84)).resize((28, 28), Image.Resampling.NEAREST)
            assert shown.convert("L") == Image.fromarray(images[number, 0].numpy())


def test_a_model_without_mistakes_is_evaluated(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels = read_split(dataset, "t10k")
    torch.save(MLP(32).state_dict(), tmp_path / "model.pth")
    monkeypatch.setattr(evaluate_module, "average_logits", lambda *_: 100.0 * nn.functional.one_hot(labels, 10))
    evaluated(dataset, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["accuracy"], metrics["expected_calibration_error"]) == (1, 0)


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04"])
def test_a_broken_model_is_named(content: bytes, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(SystemExit, match=r"model\.pth: not the weights"):
        evaluated(dataset, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pth"]


@pytest.mark.parametrize(
    ("network", "other"),
    [("mlp", MLP(16)), ("mlp", cnn(4)), ("cnn", resnet(4, 1)), ("resnet", cnn(4)), ("shufflenet_v2_x0_5", cnn(4))],
)
def test_a_model_of_another_network_is_named(network: Network, other: nn.Module, dataset: Path, tmp_path: Path) -> None:
    torch.save(other.state_dict(), tmp_path / "model.pth")
    with pytest.raises(SystemExit, match=rf"model\.pth: not the weights of {network} \(hidden_size 32, width 4"):
        evaluated(dataset, tmp_path, replace(MODEL, network=network))

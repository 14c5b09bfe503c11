"""The training is the tutorial's, learns, repeats itself byte for byte and goes on where it was killed."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import augment
import checkpoint
import pytest
import torch
import train as train_module
import tutorial
from conftest import DEFAULTS, trained
from dataset import read_split
from model import Network, infer, load
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor

RANDOM = {
    "shuffle": True,
    "flip": True,
    "shift": 1,
    "erase": 0.2,
    "momentum": 0.9,
    "schedule": "one_cycle",
    "epochs": 4,
    "validation_size": 100,
}
CNN = {"network": "cnn", "width": 4, "precision": "bf16", "optimizer": "muon"}
RESNET = CNN | {"network": "resnet"}


def test_the_weights_equal_those_of_the_tutorial(dataset: Path, tmp_path: Path) -> None:
    trained(dataset, tmp_path, hidden_size=512, learning_rate=1e-3)

    torch.manual_seed(0)
    network = tutorial.NeuralNetwork()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loader = DataLoader(FashionMNIST(root=dataset.parent, train=True, transform=ToTensor()), batch_size=64)
    for _ in range(2):
        tutorial.train(loader, network, optimizer)

    weights = torch.load(tmp_path / "model.pth", weights_only=True)
    assert list(weights) == list(network.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("network", ["mlp", "cnn", "resnet"])
def test_it_learns(network: Network, dataset: Path, tmp_path: Path) -> None:
    trained(dataset, tmp_path, epochs=5, batch_size=16, network=network, width=8)
    images, labels = read_split(dataset, "t10k")
    assert (infer(load(tmp_path / "model.pth", network, 32, 8, 1), images).argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("values", [{}, RANDOM, RANDOM | CNN, RANDOM | RESNET])
def test_the_same_values_give_the_same_bytes_and_another_seed_others(
    dataset: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    first = trained(dataset, tmp_path / "first", **values)
    assert first == trained(dataset, tmp_path / "second", **values)
    assert first["model.pth"] != trained(dataset, tmp_path / "third", **values, seed=1)["model.pth"]


OTHERS = {
    "batch_size": 32,
    "optimizer": "muon",
    "learning_rate": 0.01,
    "schedule": "one_cycle",
    "momentum": 0.9,
    "label_smoothing": 0.1,
    "shuffle": True,
    "flip": True,
    "shift": 2,
    "erase": 0.5,
    "precision": "bf16",
}


@pytest.mark.parametrize("key", OTHERS)
def test_each_value_takes_effect(key: str, dataset: Path, tmp_path: Path) -> None:
    other = trained(dataset, tmp_path / "other", **{key: OTHERS[key]})
    assert other["model.pth"] != trained(dataset, tmp_path / "plain")["model.pth"]


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The order of the images in each epoch trained."""
    seen = []
    train_epoch = train_module.train_epoch
    monkeypatch.setattr(train_module, "train_epoch", lambda *args: seen.append(args[1]) or train_epoch(*args))
    return seen


def test_each_epoch_shuffles_anew(dataset: Path, tmp_path: Path, orders: list[torch.Tensor]) -> None:
    trained(dataset, tmp_path, shuffle=True)
    assert not torch.equal(*orders)
    assert all(torch.equal(order.sort().values, torch.arange(600)) for order in orders)


def test_each_epoch_mirrors_the_images_that_the_last_one_did_not(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    flip = augment.flip
    monkeypatch.setattr(augment, "flip", lambda images, mirrored: seen.append(mirrored) or flip(images, mirrored))
    trained(dataset, tmp_path, flip=True, batch_size=600)
    assert torch.equal(seen[0], ~seen[1])
    assert 200 < seen[0].sum() < 400


def test_validation_images_are_the_last_ones_and_not_trained_on(
    dataset: Path, tmp_path: Path, orders: list[torch.Tensor]
) -> None:
    files = trained(dataset, tmp_path, validation_size=100, batch_size=16, epochs=5)
    assert all(order.tolist() == list(range(500)) for order in orders)
    images, labels = read_split(dataset, "train")
    guesses = infer(load(tmp_path / "model.pth", "mlp", 32, 64, 1), images[500:]).argmax(1)
    accuracy = json.loads(files["training.json"])["validation_accuracy"]
    assert accuracy == pytest.approx((guesses == labels[500:]).float().mean().item())
    assert accuracy > 0.9


def test_a_diverged_training_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"The loss is (nan|inf) after epoch 1: lower --learning_rate 1e\+20"):
        trained(dataset, tmp_path, learning_rate=1e20)
    assert not (tmp_path / "checkpoint").exists()


def test_holding_out_all_images_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--validation_size 600"):
        trained(dataset, tmp_path, validation_size=600)


def test_the_test_split_is_not_read(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    for file in (dataset / "raw").glob("train-*"):
        shutil.copy(file, tmp_path / "FashionMNIST" / "raw")
    trained(tmp_path / "FashionMNIST", tmp_path / "run")


class Killed(Exception):
    pass


def killed(dataset: Path, folder: Path, after: int, **values: Any) -> None:
    """Train in `folder`, but stop when `after` epochs are finished."""

    def kill(*arguments: Any) -> float:
        if len(finished) == after:
            raise Killed
        finished.append(arguments)
        return train_epoch(*arguments)

    finished: list[Any] = []
    train_epoch = train_module.train_epoch
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train_module, "train_epoch", kill)
        trained(dataset, folder, **values)


@pytest.mark.parametrize("values", [RANDOM, RANDOM | CNN, RANDOM | RESNET])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    values: dict[str, Any], dataset: Path, tmp_path: Path, orders: list[torch.Tensor]
) -> None:
    whole = trained(dataset, tmp_path / "whole", **values)
    killed(dataset, tmp_path / "killed", 3, **values)
    orders.clear()
    assert whole == trained(dataset, tmp_path / "killed", **values)
    assert len(orders) == 1


@pytest.mark.parametrize("key", [*OTHERS, "seed", "epochs", "validation_size", "network", "hidden_size", "threads"])
def test_a_checkpoint_of_other_values_is_not_used(
    key: str, dataset: Path, tmp_path: Path, orders: list[torch.Tensor]
) -> None:
    other = (OTHERS | RESNET).get(key) or DEFAULTS[key] + 2
    killed(dataset, tmp_path, 1)
    orders.clear()
    trained(dataset, tmp_path, **{key: other})
    assert len(orders) == (4 if key == "epochs" else 2)


def test_a_checkpoint_of_other_data_is_not_used(dataset: Path, tmp_path: Path, orders: list[torch.Tensor]) -> None:
    shutil.copytree(dataset, tmp_path / "FashionMNIST")
    killed(tmp_path / "FashionMNIST", tmp_path, 1)
    orders.clear()
    labels = tmp_path / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    trained(tmp_path / "FashionMNIST", tmp_path)
    assert len(orders) == 2


def test_a_checkpoint_of_other_code_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "network.py").write_text("width = 1")
    (tmp_path / "checkpoint.py").touch()
    monkeypatch.setattr(checkpoint, "__file__", str(tmp_path / "checkpoint.py"))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("network")
    before = checkpoint.fingerprint({}, ())
    assert checkpoint.fingerprint({}, ()) == before
    (tmp_path / "network.py").write_text("width = 2")
    assert checkpoint.fingerprint({}, ()) != before


@pytest.mark.parametrize("fault", ["empty", "torn", "flipped"])
def test_a_torn_checkpoint_is_not_used(fault: str, dataset: Path, tmp_path: Path, orders: list[torch.Tensor]) -> None:
    killed(dataset, tmp_path, 1)
    orders.clear()
    file = tmp_path / "checkpoint"
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    file.write_bytes({"empty": b"", "torn": whole[:middle], "flipped": flipped}[fault])
    trained(dataset, tmp_path)
    assert len(orders) == 2

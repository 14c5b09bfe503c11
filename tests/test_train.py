"""The training is the tutorial's, learns, repeats itself byte for byte and resumes where it was killed."""

from dataclasses import fields, replace
from importlib.metadata import version
import json
from pathlib import Path
import shutil
import sys
from types import SimpleNamespace
from typing import Any, Literal

import checkpoint
from compute import Compute
from dataset import read_split
from infer import load
from model import Model, compute_logits
from project import pinned
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor
import train as train_module
from train import Train
import tutorial
from values import COMPUTE, MODEL, TRAIN, trained

RANDOM = replace(
    TRAIN, epochs=4, momentum=0.9, schedule="one_cycle", shuffle=True, flip=True, shift=1, validation_size=100
)
RECIPE = replace(RANDOM, optimizer="muon", cutmix=0.5, precision="bf16")
CNN = replace(MODEL, network="cnn")
RESNET = replace(MODEL, network="resnet")
MOBILENET = replace(MODEL, network="mobilenet_v3_small")  # which has dropout
RUNS = [(RANDOM, MODEL), (RECIPE, CNN), (RECIPE, RESNET), (RANDOM, MOBILENET)]


@pytest.mark.parametrize("kernels", ["native", "portable"])
def test_the_weights_equal_those_of_the_tutorial(
    kernels: Literal["native", "portable"], dataset: Path, tmp_path: Path
) -> None:
    compute = replace(COMPUTE, kernels=kernels)
    trained(dataset, tmp_path, replace(TRAIN, learning_rate=1e-3), replace(MODEL, hidden_size=512), compute)

    torch.manual_seed(0)
    network = tutorial.NeuralNetwork()
    if kernels == "portable":
        network.register_forward_pre_hook(lambda _, inputs: inputs[0].to_mkldnn())
        network.register_forward_hook(lambda _, __, output: output.to_dense())
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loader = DataLoader(FashionMNIST(root=dataset.parent, train=True, transform=ToTensor()), batch_size=64)
    for _ in range(2):
        tutorial.train(loader, network, optimizer)

    weights = torch.load(tmp_path / "model.pth", weights_only=True)
    assert list(weights) == list(network.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("model", [MODEL, replace(CNN, width=8), replace(RESNET, width=8)])
def test_it_learns(model: Model, dataset: Path, tmp_path: Path) -> None:
    trained(dataset, tmp_path, replace(TRAIN, epochs=5, batch_size=16), model)
    images, labels = read_split(dataset, "t10k")
    guesses = compute_logits(load(tmp_path / "model.pth", model), images).argmax(1)
    assert (guesses == labels).float().mean() > 0.95


OTHERS = {
    "batch_size": replace(TRAIN, batch_size=32),
    "optimizer": replace(TRAIN, optimizer="muon"),
    "learning_rate": replace(TRAIN, learning_rate=0.01),
    "schedule": replace(TRAIN, schedule="one_cycle"),
    "momentum": replace(TRAIN, momentum=0.9),
    "label_smoothing": replace(TRAIN, label_smoothing=0.1),
    "shuffle": replace(TRAIN, shuffle=True),
    "flip": replace(TRAIN, flip=True),
    "shift": replace(TRAIN, shift=2),
    "cutmix": replace(TRAIN, cutmix=0.5),
    "precision": replace(TRAIN, precision="bf16"),
}


def test_each_value_of_training_is_tried() -> None:
    assert OTHERS.keys() | {"seed", "epochs", "validation_size"} == {field.name for field in fields(Train)}


@pytest.fixture(scope="module")
def plain(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return trained(dataset, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("key", OTHERS)
def test_each_value_takes_effect(key: str, plain: dict[str, bytes], dataset: Path, tmp_path: Path) -> None:
    assert trained(dataset, tmp_path, OTHERS[key])["model.pth"] != plain["model.pth"]


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_is_bf16_where_the_processor_has_and_may_use_it(
    has_bf16: bool, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_bf16": has_bf16})

    def weights(precision: Literal["fp32", "bf16", "auto"], kernels: Literal["native", "portable"]) -> bytes:
        values = replace(RECIPE, epochs=1, precision=precision)
        folder = tmp_path / precision / kernels
        return trained(dataset, folder, values, CNN, replace(COMPUTE, kernels=kernels))["model.pth"]

    assert weights("auto", "native") == weights("bf16" if has_bf16 else "fp32", "native")
    assert weights("auto", "portable") == weights("fp32", "portable")


def test_muon_computes_in_the_precision() -> None:
    gradient = torch.randn(8, 32, generator=torch.manual_seed(0))
    steps = {}
    for precision in ("fp32", "bf16"):
        network = nn.Linear(32, 8)
        weights = network.weight
        nn.init.zeros_(weights).grad = gradient.clone()
        chosen = replace(RECIPE, schedule="constant", precision=precision)
        (_, muon), _ = train_module.build_optimizers(network, chosen, 1)
        muon.step()
        steps[precision] = weights.detach() / RECIPE.learning_rate
    assert steps["bf16"].allclose(steps["fp32"], atol=0.01)

    # The iteration changes only the singular values, each by the same polynomial, which fp64 computes here.
    left, values, right = torch.linalg.svd(gradient.double(), full_matrices=False)
    values /= values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    exact = -(left * values) @ right
    assert steps["fp32"].double().allclose(exact, atol=1e-5)
    assert not steps["bf16"].double().allclose(exact, atol=1e-5)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The images and labels of each epoch trained, in order."""
    seen = []
    augment_epoch = train_module.augment_epoch

    def augment(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(augment_epoch(*arguments))
        return seen[-1]

    monkeypatch.setattr(train_module, "augment_epoch", augment)
    return seen


def test_each_epoch_shuffles_images_and_labels_anew(
    dataset: Path, tmp_path: Path, epochs: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    images, labels = read_split(dataset, "train")
    label_of = {image.numpy().tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}
    trained(dataset, tmp_path, replace(TRAIN, shuffle=True))
    for drawn, targets in epochs:
        keys = [image.numpy().tobytes() for image in drawn]
        assert set(keys) == label_of.keys()
        assert [label_of[key] for key in keys] == targets.tolist()
    assert not torch.equal(epochs[0][0], epochs[1][0])


def test_each_epoch_flips_the_images_that_the_last_one_did_not(
    dataset: Path, tmp_path: Path, epochs: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    images, _ = read_split(dataset, "train")
    trained(dataset, tmp_path, replace(TRAIN, flip=True))
    flipped = [(drawn == images.flip(-1)).all(3).all(2)[:, 0] for drawn, _ in epochs]
    assert torch.equal(flipped[0], ~flipped[1])
    assert 200 < flipped[0].sum() < 400


def test_validation_images_are_the_last_ones_and_not_trained_on(
    dataset: Path, tmp_path: Path, epochs: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    files = trained(dataset, tmp_path, replace(TRAIN, validation_size=100, batch_size=16, epochs=5))
    images, labels = read_split(dataset, "train")
    assert all(torch.equal(drawn, images[:500]) for drawn, _ in epochs)
    guesses = compute_logits(load(tmp_path / "model.pth", MODEL), images[500:]).argmax(1)
    accuracy = json.loads(files["training.json"])["validation_accuracy"]
    assert accuracy == pytest.approx((guesses == labels[500:]).float().mean().item())
    assert accuracy > 0.9


def test_a_diverged_training_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"The loss is (nan|inf) after epoch 1: lower `train.learning_rate`, 1e\+20"):
        trained(dataset, tmp_path, replace(TRAIN, learning_rate=1e20))
    assert not (tmp_path / "checkpoint").exists()


def test_a_training_whose_last_step_diverges_is_refused(dataset: Path, tmp_path: Path) -> None:
    values = replace(TRAIN, epochs=1, batch_size=600, learning_rate=1e30)  # one step: the loss before it is finite
    with pytest.raises(SystemExit, match=r"The network has diverged.*lower `train\.learning_rate`"):
        trained(dataset, tmp_path, values)
    assert not (tmp_path / "model.pth").exists()


def test_holding_out_all_images_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--validation_size 600"):
        trained(dataset, tmp_path, replace(TRAIN, validation_size=600))


def test_a_schedule_of_a_single_step_is_refused(dataset: Path, tmp_path: Path) -> None:
    """PyTorch gives it a learning rate of 0."""
    values = replace(TRAIN, epochs=1, batch_size=600, schedule="one_cycle")
    with pytest.raises(SystemExit, match="--batch_size 600: one step, with which one_cycle learns nothing"):
        trained(dataset, tmp_path, values)
    trained(dataset, tmp_path, replace(values, batch_size=599))


def test_a_batch_of_one_image_is_refused_where_it_cannot_be_normalised(dataset: Path, tmp_path: Path) -> None:
    values = replace(TRAIN, batch_size=599)
    trained(dataset, tmp_path, values)
    with pytest.raises(SystemExit, match=r"--batch_size 599: the smallest batch has 1 images .* this network needs 2"):
        trained(dataset, tmp_path, values, MOBILENET)


def test_the_test_split_is_not_read(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    for file in (dataset / "raw").glob("train-*"):
        shutil.copy(file, tmp_path / "FashionMNIST" / "raw")
    trained(tmp_path / "FashionMNIST", tmp_path / "run")


class Killed(Exception):
    pass


def killed(dataset: Path, folder: Path, after: int, values: Train = TRAIN, model: Model = MODEL) -> None:
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
        trained(dataset, folder, values, model)


@pytest.mark.parametrize(("values", "model"), RUNS)
def test_the_same_values_give_the_same_bytes_killed_and_resumed_too_and_another_seed_others(
    values: Train, model: Model, dataset: Path, tmp_path: Path, epochs: list[Any]
) -> None:
    whole = trained(dataset, tmp_path / "whole", values, model)
    killed(dataset, tmp_path / "killed", 3, values, model)
    epochs.clear()
    assert trained(dataset, tmp_path / "killed", values, model) == whole
    assert len(epochs) == 1
    assert trained(dataset, tmp_path / "other", replace(values, seed=1), model)["model.pth"] != whole["model.pth"]


@pytest.mark.parametrize(
    ("values", "model", "compute"),
    [
        *((values, MODEL, COMPUTE) for values in OTHERS.values()),
        (replace(TRAIN, seed=2), MODEL, COMPUTE),
        (replace(TRAIN, epochs=4), MODEL, COMPUTE),
        (replace(TRAIN, validation_size=2), MODEL, COMPUTE),
        (TRAIN, RESNET, COMPUTE),
        (TRAIN, replace(MODEL, hidden_size=34), COMPUTE),
        (TRAIN, MODEL, replace(COMPUTE, threads=3)),
        (TRAIN, MODEL, replace(COMPUTE, kernels="portable")),
    ],
    ids=[*OTHERS, "seed", "epochs", "validation_size", "network", "hidden_size", "threads", "kernels"],
)
def test_a_checkpoint_of_other_values_is_not_used(
    values: Train, model: Model, compute: Compute, dataset: Path, tmp_path: Path, epochs: list[Any]
) -> None:
    killed(dataset, tmp_path, 1)
    epochs.clear()
    trained(dataset, tmp_path, values, model, compute)
    assert len(epochs) == values.epochs


def test_a_checkpoint_in_the_precision_of_another_processor_is_not_used(
    dataset: Path, tmp_path: Path, epochs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = replace(TRAIN, precision="auto")
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": True})
    killed(dataset, tmp_path, 1, values)
    epochs.clear()
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": False})
    trained(dataset, tmp_path, values)
    assert len(epochs) == values.epochs


def test_a_checkpoint_of_other_data_is_not_used(dataset: Path, tmp_path: Path, epochs: list[Any]) -> None:
    shutil.copytree(dataset, tmp_path / "FashionMNIST")
    killed(tmp_path / "FashionMNIST", tmp_path, 1)
    epochs.clear()
    labels = tmp_path / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    trained(tmp_path / "FashionMNIST", tmp_path)
    assert len(epochs) == 2


def test_a_checkpoint_of_other_code_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "network.py").write_text("width = 1")
    (tmp_path / "checkpoint.py").touch()
    monkeypatch.setattr(checkpoint, "__file__", str(tmp_path / "checkpoint.py"))
    monkeypatch.setitem(sys.modules, "network", SimpleNamespace(__file__=str(tmp_path / "network.py")))
    before = checkpoint.fingerprint([], [])
    assert checkpoint.fingerprint([], []) == before
    (tmp_path / "network.py").write_text("width = 2")
    assert checkpoint.fingerprint([], []) != before


@pytest.mark.parametrize("package", ["python", *sorted(pinned("project.dependencies"))])
def test_a_checkpoint_of_another_version_of_python_or_a_package_is_not_used(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoint.fingerprint([], [])
    match package:
        case "python":
            monkeypatch.setattr(sys, "version", "another")
        case "torch":
            monkeypatch.setattr(torch, "__version__", "another")
        case _:
            monkeypatch.setattr(checkpoint, "version", lambda name: "another" if name == package else version(name))
    assert checkpoint.fingerprint([], []) != before


@pytest.mark.parametrize("fault", ["empty", "torn", "flipped"])
def test_a_torn_checkpoint_is_not_used(fault: str, dataset: Path, tmp_path: Path, epochs: list[Any]) -> None:
    killed(dataset, tmp_path, 1)
    epochs.clear()
    file = tmp_path / "checkpoint"
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    file.write_bytes({"empty": b"", "torn": whole[:middle], "flipped": flipped}[fault])
    trained(dataset, tmp_path)
    assert len(epochs) == 2

"""The network answers each image by itself, and its file cannot run code."""

from dataclasses import dataclass, replace
from pathlib import Path
import subprocess
import sys
from typing import get_args

from convolutional import CosineTransform, resnet
from infer import Infer, average_logits, load
from model import build, compute_logits
from project import ROOT
from published import Published
import pytest
from scipy.fft import dctn
import torch
from torch import nn
import torchvision
from torchvision.models import get_model, list_models
from values import MODEL


def test_the_answer_to_an_image_does_not_depend_on_the_others() -> None:
    network = resnet(4, 1)
    images = torch.randint(256, (2500, 1, 28, 28), dtype=torch.uint8)
    logits = compute_logits(network, images)
    assert torch.allclose(logits[2000:2010], compute_logits(network, images[2000:2010]), atol=1e-5)
    assert logits.shape == (2500, 10)


def test_the_first_layer_of_cnn_is_the_cosine_transform_of_the_pixels_around_each_one() -> None:
    image = torch.rand(5, 4)
    transformed = CosineTransform()(image[None, None])[0, :, 2, 1].reshape(3, 3)
    lengths = torch.tensor([3, 2, 6]).sqrt()  # of the cosines as whole numbers
    expected = torch.from_numpy(dctn(image[1:4, :3].numpy(), norm="ortho"))
    assert torch.allclose(transformed / torch.outer(lengths, lengths), expected, atol=1e-6)


def answers_small_images(name: str) -> bool:
    try:
        with torch.device("meta"):  # nothing is computed
            return get_model(name, num_classes=10)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    except (RuntimeError, AssertionError, AttributeError):
        return False


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of networks that are then left out
def test_every_network_of_torchvision_that_answers_small_images_can_be_chosen() -> None:
    names = list_models(module=torchvision.models)
    # regnets cannot be built without computing: see the next test
    answering = [name for name in names if name.startswith("regnet") or answers_small_images(name)]
    assert answering == sorted(get_args(Published))


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf"])
def test_a_network_of_torchvision_has_its_weights_and_gives_its_answers(name: Published) -> None:
    torch.manual_seed(0)
    network = build(replace(MODEL, network=name)).eval()
    torch.manual_seed(0)
    original = get_model(name, num_classes=10).eval()
    own, expected = network.state_dict(), original.state_dict()
    assert list(own) == list(expected) and all(torch.equal(own[key], expected[key]) for key in own)
    images = torch.rand(3, 1, 28, 28)
    coloured = nn.functional.pad(images, [2] * 4).repeat(1, 3, 1, 1)
    assert torch.allclose(network(images), original(coloured), atol=1e-5)


def test_torchvision_is_not_imported_for_the_other_networks() -> None:
    code = f"""
from dataclasses import replace
import sys, evaluate, train
from model import Model, build
for network in ("mlp", "cnn", "resnet"):
    build(replace({MODEL}, network=network))
assert "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "stages", check=True)


def test_without_views_the_answer_is_the_networks() -> None:
    network = resnet(4, 1)
    images = torch.randint(256, (20, 1, 28, 28), dtype=torch.uint8)
    assert torch.equal(average_logits(network, images, Infer(False, 0)), compute_logits(network, images))


def test_test_time_flip_averages_the_answers_to_an_image_and_its_mirror_image() -> None:
    network = resnet(4, 1)
    images = torch.randint(256, (20, 1, 28, 28), dtype=torch.uint8)
    mean = (compute_logits(network, images) + compute_logits(network, images.flip(-1))) / 2
    assert torch.equal(average_logits(network, images, Infer(True, 0)), mean)
    assert not torch.equal(compute_logits(network, images), mean)


def test_test_time_shift_averages_the_answers_to_an_image_and_those_moved_towards_each_corner() -> None:
    network = resnet(4, 1)
    image = torch.randint(256, (28, 28), dtype=torch.uint8)
    padded = torch.nn.functional.pad(image, [2] * 4)
    moved = [padded[y : y + 28, x : x + 28] for y, x in ((2, 2), (0, 0), (0, 4), (4, 0), (4, 4))]
    mean = compute_logits(network, torch.stack(moved)[:, None]).mean(0)
    answer = average_logits(network, image[None, None], Infer(False, 2))[0]
    assert torch.allclose(answer, mean, atol=1e-6)
    flipped = average_logits(network, image.flip(1)[None, None], Infer(False, 2))[0]
    both = average_logits(network, image[None, None], Infer(True, 2))[0]
    assert torch.allclose(both, (answer + flipped) / 2, atol=1e-6)


def test_answers_that_are_no_numbers_are_not_given() -> None:
    network = resnet(4, 1)
    for weights in network.parameters():
        nn.init.constant_(weights, 1e30)
    with pytest.raises(SystemExit, match=r"diverged: its answers are not numbers.*`train\.learning_rate`"):
        average_logits(network, torch.full((3, 1, 28, 28), 255, dtype=torch.uint8), Infer(False, 0))


@pytest.mark.parametrize("kind", [torch.float16, torch.int8, torch.float64])
def test_weights_of_another_type_are_not_converted(kind: torch.dtype, tmp_path: Path) -> None:
    weights = {name: tensor.to(kind) for name, tensor in build(MODEL).state_dict().items()}
    torch.save(weights, tmp_path / "model.pth")
    with pytest.raises(SystemExit, match=r"model\.pth: not the weights of mlp"):
        load(tmp_path / "model.pth", MODEL)


def test_what_cannot_be_read_is_not_called_missing(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        load(tmp_path, MODEL)


@dataclass
class Payload:
    """Touches a file when it is unpickled."""

    file: Path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.file,)


def test_a_model_file_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"weights": Payload(tmp_path / "touched")}, tmp_path / "model.pth")
    with pytest.raises(SystemExit, match=r"model\.pth: not the weights"):
        load(tmp_path / "model.pth", MODEL)
    assert not (tmp_path / "touched").exists()

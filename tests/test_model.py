"""The network answers each image by itself, its file cannot run code, and its device is one that is here."""

import resource
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
import torch
from model import infer, load, resnet, set_up


def test_the_answer_to_an_image_does_not_depend_on_the_others() -> None:
    network = resnet(4, 1)
    images = torch.randint(256, (2500, 1, 28, 28), dtype=torch.uint8)
    assert torch.allclose(infer(network, images)[2000:2010], infer(network, images[2000:2010]), atol=1e-5)
    assert infer(network, images).shape == (2500, 10)


def test_test_time_flip_averages_the_answers_to_an_image_and_its_mirror_image() -> None:
    network = resnet(4, 1)
    images = torch.randint(256, (20, 1, 28, 28), dtype=torch.uint8)
    mean = (infer(network, images) + infer(network, images.flip(-1))) / 2
    assert torch.equal(infer(network, images, test_time_flip=True), mean)
    assert not torch.equal(infer(network, images), mean)


def test_test_time_shift_averages_the_answers_to_an_image_and_those_moved_towards_each_corner() -> None:
    network = resnet(4, 1)
    image = torch.randint(256, (28, 28), dtype=torch.uint8)
    padded = torch.nn.functional.pad(image, [2] * 4)
    moved = [padded[y : y + 28, x : x + 28] for y, x in ((2, 2), (0, 0), (0, 4), (4, 0), (4, 4))]
    mean = infer(network, torch.stack(moved)[:, None]).mean(0)
    answer = infer(network, image[None, None], test_time_shift=2)[0]
    assert torch.allclose(answer, mean, atol=1e-6)
    mirrored = infer(network, image.flip(1)[None, None], test_time_shift=2)[0]
    both = infer(network, image[None, None], test_time_flip=True, test_time_shift=2)[0]
    assert torch.allclose(both, (answer + mirrored) / 2, atol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_memory_that_a_step_frees_serves_the_next_one() -> None:
    set_up("cpu", torch.get_num_threads())
    faults = []
    for _ in range(11):
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        torch.ones(2**24)
    assert median(after - before for before, after in pairwise(faults)) < 10


@dataclass
class Payload:
    """Touches a file when it is unpickled."""

    file: Path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.file,)


def test_a_model_file_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"weights": Payload(tmp_path / "touched")}, tmp_path / "model.pth")
    with pytest.raises(SystemExit, match=r"model\.pth: not the weights"):
        load(tmp_path / "model.pth", "mlp", 32, 4, 1)
    assert not (tmp_path / "touched").exists()


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a GPU is here")
def test_a_device_that_is_not_here_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="--device cuda: not on this machine; choose auto or cpu"):
        set_up("cuda", 1)
    assert set_up("auto", 1) == torch.device("cpu")
    assert capsys.readouterr().out == "Using cpu device\n"

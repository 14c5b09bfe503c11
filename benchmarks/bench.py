"""Measures times and memory, against the tutorial's script and the floors of the machine, and prints tables.

Alternatives take turns in one run, because machines are noisy; a ratio is the median over the turns, with its range.
"""

from collections.abc import Callable, Sequence
import contextlib
import gzip
import os
from pathlib import Path
import re
import shutil
from statistics import linear_regression, median
import subprocess
import sys
import tempfile
import time
from typing import Any
from unittest import mock

sys.path.insert(1, str(Path(__file__).parent.parent / "stages"))

from compute import Compute, fastest_precision, set_up
from convolutional import Convolution
import cyclopts
from dataset import Split, read_split, split_files
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.utils.serialize import dump_yaml, load_yaml, loads_yaml, modify_yaml
from model import Model, build
import numpy as np
from PIL import Image
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FashionMNIST
from torchvision.transforms import ToTensor
import train as train_module
import tutorial

ROOT = Path(__file__).parent.parent
DATASET = ROOT / "data" / "FashionMNIST"
COMPUTE = Compute(device="cpu", threads=2, kernels="native")
SPLITS: tuple[Split, ...] = ("train", "t10k")
# In a small process of its own: what Linux calls the peak of a process includes that of the one it was forked from.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
os.environ["KINETO_LOG_LEVEL"] = "6"  # otherwise PyTorch's profiler reports on stderr that there is no GPU
DVC = [Path(sys.executable).with_name("dvc"), "repro", "--quiet"]


def bench(*, short: bool = False) -> None:
    """Print every table; `short` takes few images and turns, to see that all of it runs."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    set_up(COMPUTE)
    turns, share, growth = (1, 0.05, (0.02, 0.04)) if short else (3, 1.0, (1.0, 2.0, 4.0))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_SITE_CACHE_DIR"] = f"{folder}/site"
        project = copy_project(Path(folder) / "project", share)
        print("| what | time | against | time | ratio (range) |\n|---|---|---|---|---|")
        bench_training(project, turns)
        bench_commands(project, turns)
        bench_processes(copy_project(Path(folder) / "processes", share / 3), turns)
        bench_convolutions(turns)
        print("\n| images | stage | time | peak memory |\n|---|---|---|---|")
        bench_growth(Path(folder), growth)


def copy_project(folder: Path, factor: float, pictures: int = 0) -> Path:
    """The project, with the tutorial's values, `factor` times the images, from disk, and `pictures` more to predict."""
    ignored = shutil.ignore_patterns(".venv", ".git", "cache", "tmp", "__pycache__", "FashionMNIST", "*.lock")
    shutil.copytree(ROOT, folder, ignore=ignored)
    source = folder.with_name(f"{folder.name}-source")
    source.mkdir()
    raw = folder / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for split in SPLITS:
        arrays = [tensor.numpy().astype(np.uint8) for tensor in read_split(DATASET, split)]
        chosen = np.arange(round(len(arrays[1]) * factor)) % len(arrays[1])
        for path, array in zip(split_files(raw.parent, split), (arrays[0][:, 0], arrays[1]), strict=True):
            header = np.array([2048 + array.ndim, len(chosen), *array.shape[1:]], ">i4")
            path.write_bytes(header.tobytes() + array[chosen].tobytes())
            with gzip.open(source / f"{path.name}.gz", "wb", compresslevel=1) as file:
                file.write(path.read_bytes())
    images, _ = read_split(DATASET, "t10k")
    for number in range(pictures):
        Image.fromarray(images[number, 0].numpy()).save(folder / "data" / "pictures" / f"{number}.png")
    digests = subprocess.check_output(["sha256sum", *sorted(path.name for path in raw.iterdir())], cwd=raw)
    (folder / "data" / "FashionMNIST.sha256").write_bytes(digests)
    set_params(folder, "download", sources=[f"file://{source}"])
    choose(folder, "tutorial")
    set_params(folder, "compute", device="cpu")  # what the clone has in these three is its user's
    set_params(folder, "launch", train="python")
    set_params(folder, "export", formats=[])
    (folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    return folder


def set_params(project: Path, section: str, **values: Any) -> None:
    with modify_yaml(project / "params.yaml") as params:
        params[section].update(values)


def choose(project: Path, recipe: str) -> None:
    """Set the values of the recipe."""
    for section in ("model", "compute", "train", "infer"):
        set_params(project, section, **declared(recipe, section))


def declared(recipe: str, section: str) -> dict[str, Any]:
    """A section of a recipe."""
    values = re.findall(rf"--set-param={section}\.(\w+)=(\S+)", (ROOT / "recipes" / recipe).read_text())
    return {key: loads_yaml(value) for key, value in values}


def measured(command: list[str | Path], folder: Path) -> tuple[float, float]:
    """The seconds that a command takes, and the peak memory of its largest process in MB."""
    printed = subprocess.check_output([sys.executable, "-c", MEASURE, *command], cwd=folder, text=True)
    seconds, memory = printed.split()
    return float(seconds), float(memory) / 1024


def compare(one: str, times: Sequence[float], other: str, other_times: Sequence[float]) -> None:
    """A row of the table of two alternatives that took turns."""
    ratio = [seconds / others for seconds, others in zip(times, other_times, strict=True)]
    print(f"| {one} | {median(times):.2f} s | {other} | {median(other_times):.2f} s ", end="")
    print(f"| {median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f}) |", flush=True)


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def bench_training(project: Path, turns: int) -> None:
    """An epoch of the default values: the stage's, the tutorial's, and the bare matrix products."""
    dataset = project / "data" / "FashionMNIST"
    params = load_yaml(project / "params.yaml")
    train = train_module.Train(**(params["train"] | {"epochs": turns}))
    model = Model(**params["model"])
    network = tutorial.NeuralNetwork()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loader = DataLoader(FashionMNIST(root=dataset.parent, train=True, transform=ToTensor()), batch_size=64)
    images, _ = read_split(dataset, "train")
    inputs = images.view(-1, 784).float()
    times: dict[str, list[float]] = {"stage": [], "tutorial": [], "products": []}
    train_epoch = train_module.train_epoch

    def turn(*arguments: Any) -> float:
        times["products"].append(timed(lambda: matrix_products(inputs)))
        times["tutorial"].append(timed(lambda: tutorial.train(loader, network, optimizer)))
        start = time.perf_counter()
        loss = train_epoch(*arguments)
        times["stage"].append(time.perf_counter() - start)
        return loss

    written = [project / name for name in ("model", "curves", "training", "checkpoint")]
    with mock.patch("train.train_epoch", turn), Path(os.devnull).open("w") as null, contextlib.redirect_stdout(null):
        train_module.train(dataset, *written, train=train, model=model, compute=COMPUTE)
    compare("the tutorial's epoch", times["tutorial"], "the stage's", times["stage"])
    compare("the stage's epoch", times["stage"], "its matrix products alone", times["products"])


def matrix_products(inputs: torch.Tensor) -> None:
    """Those of an epoch of the MLP in batches of 64: forward, and backward, except the gradient of the images."""
    weights = [torch.randn(512, 784), torch.randn(512, 512), torch.randn(10, 512)]
    layers = [torch.randn(64, 512), torch.randn(64, 512), torch.randn(64, 10)]
    forward, backward = [torch.empty_like(layer) for layer in layers], [torch.empty_like(weight) for weight in weights]
    for batch in inputs.split(64):
        for number, (weight, layer) in enumerate(zip(weights, layers, strict=True)):
            below, layer = (layers[number - 1] if number else batch)[: len(batch)], layer[: len(batch)]
            torch.mm(below, weight.T, out=forward[number][: len(batch)])
            torch.mm(layer.T, below, out=backward[number])
            if number:
                torch.mm(layer, weight, out=forward[number - 1][: len(batch)])


def bench_convolutions(turns: int) -> None:
    """Forward and backward of the recipe best in its precision, its convolutions alone, and what is no kernel."""
    in_bf16 = fastest_precision(COMPUTE, torch.device("cpu")) == "bf16"
    dtype = torch.bfloat16 if in_bf16 else torch.float32
    precision = torch.autocast("cpu", torch.bfloat16, enabled=in_bf16)
    network = build(Model(**declared("best", "model")))
    images, labels = torch.rand(256, 1, 28, 28), torch.randint(10, (256,))
    seen: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []

    def see(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        first = inputs[0] is images  # which needs no gradient
        seen.append((layer, inputs[0].detach().to(dtype).requires_grad_(not first), torch.ones_like(output)))

    def step() -> None:
        with precision:
            logits = network(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()

    def convolutions() -> None:
        for layer, inputs, gradient in seen:
            with precision:
                output = layer(inputs)
            output.backward(gradient)

    hooks = [
        layer.register_forward_hook(see) for layer in network.modules() if isinstance(layer, Convolution | nn.Conv2d)
    ]
    step()
    for hook in hooks:
        hook.remove()
    steps, alone = zip(*[(timed(step), timed(convolutions)) for _ in range(5 * turns)], strict=True)
    compare("forward and backward of best", steps, "its convolutions alone", alone)
    with torch.profiler.profile() as profile:
        seconds = timed(step)
    kernels = sum(event.self_cpu_time_total for event in profile.key_averages() if event.key.startswith("aten::")) / 1e6
    print(f"\n`best` takes {256 / median(steps):.0f} images/s forward and backward, ", end="")
    print(f"with {1 - kernels / seconds:.3f} of the time outside the kernels.")


def bench_commands(project: Path, turns: int) -> None:
    """Whole commands: the pipeline with an empty cache, one stage of it, and nothing to do."""
    runs: dict[str, list[float]] = {"cold": [], "script": [], "predict": [], "import": [], "nothing": [], "empty": []}
    script = [sys.executable, ROOT / "benchmarks" / "tutorial.py"]
    empty = project.with_name("empty")
    (empty / ".dvc").mkdir(parents=True)
    for config in ("config", "config.local"):
        shutil.copy(project / ".dvc" / config, empty / ".dvc")
    stages = {name: {"cmd": f"touch {name}", "outs": [name]} for name in ("one", "two", "three", "four")}
    dump_yaml(empty / "dvc.yaml", {"stages": stages})
    measured(DVC, empty)
    for turn in range(turns):
        shutil.rmtree(project / ".dvc" / "cache", ignore_errors=True)
        (project / "dvc.lock").unlink(missing_ok=True)
        runs["script"].append(measured(script, project)[0])
        runs["cold"].append(measured(DVC, project)[0])
        runs["nothing"].append(measured(DVC, project)[0])
        runs["empty"].append(measured(DVC, empty)[0])
        runs["import"].append(measured([sys.executable, "-c", "import torch"], project)[0])
        set_params(project, "predict", index=turn + 1)
        runs["predict"].append(measured(DVC, project)[0])
    together = [one + two for one, two in zip(runs["import"], runs["nothing"], strict=True)]
    compare("`dvc repro`, nothing cached", runs["cold"], "the tutorial's script", runs["script"])
    compare("`dvc repro` of predict", runs["predict"], "`import torch` and `dvc repro` of nothing", together)
    compare("`dvc repro` of nothing", runs["nothing"], "that of four empty stages", runs["empty"])


def bench_processes(project: Path, turns: int) -> None:
    """Half of an epoch of one process with one thread, the ideal, and an epoch of two such, with quick's network.

    On a third of the images, for an epoch takes long with one thread.
    """
    set_params(project, "compute", kernels="native", threads=1)
    set_params(project, "model", **declared("quick", "model"))
    set_params(project, "train", batch_size=declared("quick", "train")["batch_size"])
    torchrun = "torchrun --standalone --nproc-per-node 2"
    times: dict[str, list[float]] = {"python": [], torchrun: []}
    for _ in range(turns):
        for launch, seconds in times.items():
            set_params(project, "launch", train=launch)
            whole = []
            for epochs in (1, 3):
                set_params(project, "train", epochs=epochs)
                whole.append(measured([*DVC, "--force", "--single-item", "train"], project)[0])
            seconds.append((whole[1] - whole[0]) / 2)
    halves = [time / 2 for time in times["python"]]
    compare("an epoch of `quick`'s network in two processes", times[torchrun], "half of one's", halves)


def bench_growth(folder: Path, factors: tuple[float, ...]) -> None:
    """Each stage on a multiple of the images, and the seconds that each further multiple costs."""
    times: dict[str, list[float]] = {}
    _, torch_alone = measured([sys.executable, "-c", "import torch"], folder)
    print(f"| | `import torch` | | {torch_alone:.0f} MB |")
    for factor in factors:
        project = copy_project(folder / f"times-{factor:g}", factor, pictures=round(625 * factor))
        set_params(project, "train", epochs=1)
        stages = [stage for stage in Repo(str(project)).index.stages if isinstance(stage, PipelineStage)]
        for name, command in {str(stage.name): str(stage.cmd) for stage in stages}.items():
            seconds, memory = measured(["sh", "-c", command], project)
            times.setdefault(name, []).append(seconds)
            print(f"| {factor:g} x | {name} | {seconds:.1f} s | {memory:.0f} MB |", flush=True)
            if name == "train" and factor == factors[0]:
                seconds, memory = measured(["sh", "-c", command.replace("--epochs 1", "--epochs 5")], project)
                print(f"| {factor:g} x | train, five epochs | {seconds:.1f} s | {memory:.0f} MB |", flush=True)
        shutil.rmtree(project)
    for name, each in times.items():
        slope, start = linear_regression(factors, each)
        print(f"| each 1 x more | {name} | {slope:.2f} s after {start:.1f} s | |")


if __name__ == "__main__":
    cyclopts.run(bench)

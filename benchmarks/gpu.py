"""Shows what this machine's GPU does: accuracy, equal bytes, resuming, torchrun, and where the time goes.

python benchmarks/gpu.py           # after `dvc repro`; meant to take ten minutes
python benchmarks/gpu.py --short   # few images and epochs, on any device, to see that it runs
"""

from collections.abc import Callable
import json
from math import ceil
import os
from pathlib import Path
import re
import signal
from statistics import mean, stdev
import subprocess
import sys
import tempfile
import time
from typing import Any

sys.path.insert(1, str(Path(__file__).parent.parent / "stages"))

from bench import DATASET, DVC, choose, copy_project, declared, set_params, timed
from compute import Compute, fastest_precision, set_up
import cyclopts
from dataset import read_split
from model import Model, build
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm
from train import Train, augment_epoch, build_optimizers, train_epoch

TRAIN = [DVC[0], "repro", "--force", "--single-item", "train"]
EVALUATE = [*DVC, "--force", "--single-item", "evaluate"]
TORCHRUN = "torchrun --standalone --nproc-per-node 1"
LEVELS = (0.93, 0.94, 0.95, 0.955)


def gpu(*, short: bool = False) -> None:
    """Print every table."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_SITE_CACHE_DIR"] = f"{folder}/site"
        project = copy_project(Path(folder) / "project", 0.05 if short else 1.0)
        set_params(project, "compute", device="auto")
        subprocess.run([*DVC, "download"], cwd=project, check=True, stdout=subprocess.DEVNULL)
        print("| recipe | accuracy | a run | again | killed and resumed | by torchrun |\n|---|---|---|---|---|---|")
        for recipe in ("quick",) if short else ("tutorial", "quick", "best"):
            measure(recipe, project, {"epochs": 3} if short else {})
        print("\n| images held out | seconds of the recipe best |\n|---|---|")
        race(project, {"epochs": 2, "validation_size": 500} if short else {"validation_size": 10_000})
    take_apart(steps=3 if short else 100)


def measure(recipe: str, project: Path, values: dict[str, Any]) -> None:
    """The row of a recipe: three seeds, then seed 0 in three other ways, which should give the same bytes."""
    choose(project, recipe)
    set_params(project, "train", **values)
    accuracies, seconds = [], []
    for seed in (2, 1, 0):
        set_params(project, "train", seed=seed)
        seconds.append(timed(lambda: run(project)))
        subprocess.run(EVALUATE, cwd=project, check=True, stdout=subprocess.DEVNULL)
        accuracies.append(json.loads((project / "metrics.json").read_text())["accuracy"])
    model = project / "model.pth"
    models = [model.read_bytes()]
    run(project)
    models.append(model.read_bytes())
    run(project, lambda line: line.startswith("Epoch 2/"))
    assert "Resuming after epoch" in run(project)
    models.append(model.read_bytes())
    set_params(project, "launch", train=TORCHRUN)
    run(project)
    models.append(model.read_bytes())
    set_params(project, "launch", train="python")
    same = " | ".join("the same bytes" if each == models[0] else "OTHER BYTES" for each in models[1:])
    accuracy = f"{mean(accuracies):.4f} ± {stdev(accuracies):.4f}"
    print(f"| {recipe} | {accuracy} | {mean(seconds):.0f} s | {same} |", flush=True)


def run(project: Path, stop: Callable[[str], object] = lambda _: False) -> str:
    """Run the stage `train`, until a line that it prints is one to `stop` at; returns what it printed."""
    printed, stopped = "", False
    with subprocess.Popen(
        TRAIN, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        for line in process.stdout or []:
            printed += line
            if not stopped and stop(line):
                stopped = True
                os.killpg(process.pid, signal.SIGKILL)
    assert stopped or process.returncode == 0, printed
    return printed


def race(project: Path, values: dict[str, Any]) -> None:
    """After how many seconds, from the start of the process, the recipe best has reached each accuracy."""
    choose(project, "best")
    set_params(project, "train", **values)
    start = time.perf_counter()
    missing = list(LEVELS)

    def watch(line: str) -> None:
        [reached] = re.findall(r"validation_accuracy (\S+)", line) or ["0"]
        while missing and float(reached) >= missing[0]:
            print(f"| {missing.pop(0)} | {time.perf_counter() - start:.0f} s |", flush=True)

    run(project, watch)
    for level in missing:
        print(f"| {level} | not reached |")


def take_apart(steps: int) -> None:
    """Where the time of an epoch of the recipe best goes."""
    settings: dict[str, Any] = {"device": "auto", **declared("best", "compute")}
    values: dict[str, Any] = {"seed": 0, **declared("best", "train")}
    compute = Compute(**settings)
    device = set_up(compute)
    train = Train(**(values | {"precision": fastest_precision(compute, device)}))
    network = build(Model(**declared("best", "model"))).to(device)
    images, labels = (tensor[: steps * train.batch_size].to(device) for tensor in read_split(DATASET, "train"))
    drawn = augment_epoch(images, labels, torch.rand(len(labels), device=device) < 0.5, train, 1)
    optimizers, schedulers = build_optimizers(network, train, 2 * steps)
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with tqdm(disable=True) as bar:
        once = (network, optimizers, schedulers, *drawn, train, bar)
        train_epoch(*once)  # to warm up
        with profile(activities=activities) as seen:
            seconds = timed(lambda: train_epoch(*once))
    events = [each for each in seen.key_averages() if (each.device_type == DeviceType.CUDA) is on_gpu]
    kernels = [each for each in events if not each.is_user_annotation]
    spent = {each.key: (each.self_device_time_total if on_gpu else each.self_cpu_time_total) / 1e6 for each in kernels}
    print(f"\n{steps} steps of best on {torch.cuda.get_device_name() if on_gpu else 'the CPU'}: {seconds:.2f} s")
    print(f"kernels: {sum(spent.values()):.2f} s, the longest:")
    for name in sorted(spent, key=spent.__getitem__, reverse=True)[:8]:
        print(f"  {spent[name]:.3f} s {name[:90]}")
    copies = sum(event.count for event in events if "HtoD" in event.key or "DtoH" in event.key)
    print(f"copies between CPU and GPU: {copies}, of {ceil(steps / 100) + 1} that show and return the loss")


if __name__ == "__main__":
    cyclopts.run(gpu)

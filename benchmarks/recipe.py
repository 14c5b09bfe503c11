"""Runs a recipe with several seeds by `dvc exp run`, prints its row of a table, and adds it to accuracy.csv and .svg.

The accuracy is that on the test split, or on images held out, to choose values by:
python benchmarks/recipe.py quick
python benchmarks/recipe.py quick --held-out 10000 train.flip=false
"""

import csv
import json
from pathlib import Path
from statistics import mean, stdev
import subprocess
import sys
import time

sys.path.insert(1, str(Path(__file__).parent.parent / "stages"))
sys.path.insert(1, str(Path(__file__).parent.parent / "tools"))

from answer import accuracy
import cyclopts
from dataset import read_split
from draw import draw
from dvc.api import params_show
from infer import load
from model import Model
from report import DVC

PARAMS = Path("params.yaml")
RESULTS = Path(__file__).with_name("accuracy.csv")


def recipe(name: str, /, *values: str, seeds: int = 3, held_out: int = 0) -> None:
    """Run recipes/NAME with other VALUES, each section.key=value; with `held_out` train alone, on the other images.

    What a run wrote stays, except params.yaml: its values must not get into the next run.
    """
    params = PARAMS.read_bytes()
    try:
        row = measure(name, values, seeds, held_out)
    finally:
        PARAMS.write_bytes(params)
    with RESULTS.open("a") as file:
        csv.writer(file, lineterminator="\n").writerow(row)
    draw(RESULTS)
    run, _, average, deviation, weights, seconds = row
    print(f"| {run} | {' ± '.join(filter(None, (average, deviation)))} | {weights:,} | {seconds} s |")


def measure(name: str, values: tuple[str, ...], seeds: int, held_out: int) -> tuple[str, str, str, str, int, int]:
    """The row of accuracy.csv."""
    options = Path("recipes", name).read_text().split()
    options += [f"--set-param={value}" for value in (*values, f"train.validation_size={held_out}")]
    accuracies, times = [], []
    for seed in range(seeds):
        stages = "--single-item" if held_out else "--downstream"  # not download, whose time is the network's
        command = [DVC, "exp", "run", "--force", *options, f"--set-param=train.seed={seed}", stages, "train"]
        start = time.monotonic()
        subprocess.run(command, check=True)
        times.append(time.monotonic() - start)
        accuracies.append(held_out_accuracy(held_out) if held_out else test_accuracy())
    weights = sum(tensor.numel() for tensor in load(Path("model.pth"), Model(**params_show()["model"])).parameters())
    deviation = f"{stdev(accuracies):.4f}" if seeds > 1 else ""
    split = "held out" if held_out else "test"
    return " ".join([name, *values]), split, f"{mean(accuracies):.4f}", deviation, weights, round(mean(times))


def test_accuracy() -> float:
    return json.loads(Path("metrics.json").read_text())["accuracy"]


def held_out_accuracy(count: int) -> float:
    images, labels = read_split(Path("data/FashionMNIST"), "train")
    return accuracy(images[-count:], labels[-count:])


if __name__ == "__main__":
    cyclopts.run(recipe)

"""Runs a recipe with several seeds, by `dvc exp run`, and prints a row of the README's table.

python benchmarks/recipe.py quick                                      # the accuracy on the test split
python benchmarks/recipe.py quick --held-out 10000 train.flip=false    # of images held out, to choose values by
"""

import json
import subprocess
import time
from pathlib import Path
from statistics import mean, stdev

import torch
from cyclopts import App


def recipe(name: str, /, *values: str, seeds: int = 3, held_out: int = 0) -> None:
    """Run recipes/NAME with other VALUES, each section.key=value; with `held_out` train alone, on the other images."""
    options = Path("recipes", name).read_text().split()
    options += [f"--set-param={value}" for value in (*values, f"train.validation_size={held_out}")]
    target, file, key = ["train"], "training.json", "validation_accuracy"
    if not held_out:
        target, file, key = [], "metrics.json", "accuracy"
    accuracies, times = [], []
    for seed in range(seeds):
        start = time.monotonic()
        subprocess.run(
            ["dvc", "exp", "run", "--force", *options, f"--set-param=train.seed={seed}", *target], check=True
        )
        times.append(time.monotonic() - start)
        accuracies.append(json.loads(Path(file).read_text())[key])
    parameters = sum(weights.numel() for weights in torch.load("model.pth", weights_only=True).values())
    spread = f" ± {stdev(accuracies):.4f}" if seeds > 1 else ""
    print(f"| {' '.join([name, *values])} | {mean(accuracies):.4f}{spread} | {parameters:,} | {mean(times):.0f} s |")


if __name__ == "__main__":
    App(default_command=recipe)()

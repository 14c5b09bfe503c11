"""Runs the same values with several seeds, and prints the mean and the spread of each metric.

python tools/seeds.py 3                             # the values of params.yaml with the seeds 0, 1 and 2
python tools/seeds.py 5 -S train.learning_rate=0.01
"""

import os
from pathlib import Path
from signal import SIGINT
from statistics import mean, stdev
import subprocess
import sys
from typing import Annotated

sys.path.insert(1, str(Path(__file__).parent.parent / "stages"))

import command  # which says what to do where the packages are missing, and so comes before them
from cyclopts import Parameter
from dvc.repo import Repo

DVC = Path(sys.executable).with_name("dvc")


def seeds(
    count: Annotated[int, command.number(gte=1), Parameter(required=True)],
    /,
    *,
    value: Annotated[tuple[str, ...], Parameter(("-S", "--set-param"))] = (),
) -> None:
    """Run with the seeds 0 to COUNT - 1, each as an experiment, and print a table. The workspace stays as it is.

    A run that DVC's cache has is not repeated: after it was stopped, the same command goes on.

    Parameters
    ----------
    value
        Another value for these runs: section.key=value.
    """
    os.chdir(Path(__file__).parent.parent)
    if any(each.startswith("train.seed=") for each in value):
        sys.exit("seeds: train.seed is what differs between the runs; leave it out")
    try:
        names = [run(*value, f"train.seed={seed}") for seed in range(count)]
    except KeyboardInterrupt:
        print("seeds: stopped; the same command goes on from the runs that have finished", file=sys.stderr)
        sys.exit(128 + SIGINT)
    shown = Repo().metrics.show(revs=names)
    results = [
        {metric: number for file in shown[name]["data"].values() for metric, number in file["data"].items()}
        for name in names
    ]
    print(f"| metric | mean ± standard deviation | seeds 0 to {count - 1} |")
    print("|---|---|---|")
    for metric in (name for name in results[0] if name != "epoch"):
        numbers = [result[metric] for result in results]
        spread = f" ± {stdev(numbers):.4f}" if count > 1 else ""
        print(f"| {metric} | {mean(numbers):.4f}{spread} | {' '.join(f'{number:.4f}' for number in numbers)} |")
    print(f"| experiment | | {' '.join(names)} |")


def run(*values: str) -> str:
    """Run an experiment with other values in a folder of its own, and show what it prints; returns its name."""
    options = (f"--set-param={value}" for value in values)
    name = ""
    with subprocess.Popen([DVC, "exp", "run", "--temp", *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or []:
                print(line, end="", flush=True)
                if line.startswith("Ran experiment(s): "):
                    name = line.split()[-1]
        except KeyboardInterrupt:
            process.wait()  # DVC cleans up, and must not do so behind the next prompt
            raise
    if process.returncode:
        sys.exit(f"seeds: the run with {values[-1]} failed")
    return name


if __name__ == "__main__":
    command.run(seeds, required=False)

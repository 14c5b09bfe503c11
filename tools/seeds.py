"""Runs the same values with several seeds in DVC's queue, and prints the mean and the spread of each metric.

python tools/seeds.py 3                             # the values of params.yaml with the seeds 0, 1 and 2
python tools/seeds.py 5 -S train.learning_rate=0.01
"""

import re
from statistics import mean, stdev
import subprocess
import sys
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from cyclopts.validators import Number
from dvc.api import metrics_show

Count = Annotated[int, Parameter(validator=Number(gte=1))]


def seeds(
    count: Count, /, *, value: Annotated[tuple[str, ...], Parameter(("-S", "--set-param"))] = (), jobs: Count = 1
) -> None:
    """Run with the seeds 0 to COUNT - 1, and print a table.

    What the cache has is not run again: the same command goes on after it was stopped.

    Parameters
    ----------
    value
        Another value for these runs, section.key=value; params.yaml stays as it is.
    jobs
        How many runs at a time: more are faster where one leaves processors idle.
    """
    names = [queue([*value, f"train.seed={seed}"]) for seed in range(count)]
    try:
        subprocess.run(["dvc", "exp", "run", "--run-all", f"--jobs={jobs}"])
    except KeyboardInterrupt:  # which DVC takes as the wish to see no more
        for command in ("remove", "kill"):
            for name in names:
                subprocess.run(["dvc", "queue", command, name], capture_output=True)
        sys.exit("seeds: stopped; the same command goes on from the runs that have finished")
    finished = subprocess.check_output(["dvc", "exp", "list", "--name-only"], text=True).split()
    if failed := [name for name in names if name not in finished]:
        sys.exit(f"seeds: {len(failed)} of {count} runs failed; `dvc queue logs {failed[0]}` shows why")
    results = [metrics_show(rev=name) for name in names]
    print(f"| metric | mean ± standard deviation | seeds 0 to {count - 1} |")
    print("|---|---|---|")
    for metric in (name for name in results[0] if name != "epoch"):
        numbers = [result[metric] for result in results]
        spread = stdev(numbers) if count > 1 else 0
        print(f"| {metric} | {mean(numbers):.4f} ± {spread:.4f} | {' '.join(f'{number:.4f}' for number in numbers)} |")
    print(f"| experiment | | {' '.join(names)} |")


def queue(values: list[str]) -> str:
    """Queue an experiment with other values; returns its name."""
    options = [f"--set-param={value}" for value in values]
    done = subprocess.run(["dvc", "exp", "run", "--queue", *options], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # DVC has said why
    [name] = re.findall("Queued experiment '(.+)'", done.stdout)
    return name


if __name__ == "__main__":
    cyclopts.run(seeds)

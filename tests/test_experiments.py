"""Experiments as people run them: swept in a queue, compared, kept, and watched while they train."""

import contextlib
from itertools import islice
import json
import os
from pathlib import Path
import pty
import re
import signal
import subprocess
import sys
import termios

from dvc.utils.serialize import load_yaml
from faults import suspended
from project import RECIPES, Workspace, ran
import psutil


def shown(workspace: Workspace) -> dict[str, dict[str, float]]:
    """Each row of `dvc exp show`: its name, and the metrics of its training."""
    table = json.loads(workspace.run("dvc", "exp", "show", "--json"))
    rows = {row["rev"]: row["data"] for row in table}
    rows |= {
        experiment["name"]: experiment["revs"][0]["data"] for row in table for experiment in row["experiments"] or []
    }
    return {name: row["metrics"].get("training.json", {}).get("data", {}) for name, row in rows.items()}


def test_a_sweep_runs_in_two_workers_and_its_results_are_compared_and_kept(workspace: Workspace) -> None:
    for name, momentum in {"none": "0.0", "half": "0.5"}.items():
        workspace.run("dvc", "exp", "run", "--queue", "--name", name, "--set-param", f"train.momentum={momentum}")
    workspace.run("dvc", "exp", "run", "--run-all", "--jobs", "2")
    results = shown(workspace)
    assert results["half"]["validation_loss"] < results["none"]["validation_loss"]
    columns = ("--only-changed", "--hide-workspace", "--drop", r"Created|Executor|.*_error|.*\.(csv|png|pth)$")
    assert max(map(len, workspace.run("dvc", "exp", "show", *columns).splitlines())) <= 100

    workspace.run("dvc", "exp", "branch", "half", "kept")
    [change] = json.loads(workspace.run("dvc", "params", "diff", "main", "kept", "--json"))["params.yaml"].items()
    assert change == ("train.momentum", {"old": 0.9, "new": 0.5, "diff": 0.5 - 0.9})
    metrics = json.loads(workspace.run("dvc", "metrics", "diff", "none", "kept", "--json"))
    assert metrics["training.json"]["validation_loss"]["diff"] < 0
    workspace.run("dvc", "plots", "diff", "main", "kept")
    page = (workspace.path / "dvc_plots" / "index.html").read_text()
    assert all(f'"rev": "{branch}"' in page for branch in ("main", "kept"))
    assert all(f"{branch}_mistakes.png" in page for branch in ("main", "kept"))

    workspace.run("dvc", "exp", "apply", "half")
    assert ran(workspace.run("dvc", "repro")) == []
    assert json.loads((workspace.path / "training.json").read_text()) == results["half"]


def test_a_recipe_runs_and_a_value_given_after_it_counts(workspace: Workspace) -> None:
    smaller = [f"--set-param={value}" for value in ("model.width=4", "train.epochs=1", "train.validation_size=50")]
    printed = workspace.run("dvc", "exp", "run", *RECIPES["best"], *smaller, "evaluate")
    assert ran(printed) == ["train", "evaluate"]
    assert "Epoch 1/1: train_loss " in printed


def test_a_measured_recipe_is_recorded_and_leaves_the_values_as_they_were(workspace: Workspace) -> None:
    values = (workspace.path / "params.yaml").read_bytes()
    measured = (sys.executable, "benchmarks/recipe.py", "tutorial", "train.epochs=1", "--seeds", "2")
    printed = workspace.run(*measured, "--held-out", "50").splitlines()[-1]
    assert printed.startswith("| tutorial train.epochs=1 | 0.")
    assert (workspace.path / "params.yaml").read_bytes() == values
    row = (workspace.path / "benchmarks" / "accuracy.csv").read_text().splitlines()[-1]
    assert row.startswith("tutorial train.epochs=1,held out,0.")


def test_the_errors_on_the_images_held_out_are_counted_and_drawn(workspace: Workspace) -> None:
    workspace.run("dvc", "exp", "run", "--set-param", "train.learning_rate=1e-4", "--single-item", "train")
    printed = workspace.run(sys.executable, "benchmarks/errors.py")
    accuracy = json.loads((workspace.path / "training.json").read_text())["validation_accuracy"]
    held_out = load_yaml(workspace.path / "params.yaml")["train"]["validation_size"]
    [count] = re.findall(r"\| all \| (\d+) \|", printed)
    assert int(count) == round((1 - accuracy) * held_out) > 0
    assert (workspace.path / "errors.png").read_bytes().startswith(b"\x89PNG")


SEEDS = (sys.executable, "tools/seeds.py", "2")


def test_several_seeds_are_one_table_and_go_on_after_ctrl_c(fresh: Workspace, tmp_path: Path) -> None:
    """In a clone in which nothing has run yet."""
    workspace = fresh.copy(tmp_path / "clone")
    command = (*SEEDS, "-S", "train.epochs=50", "--set-param=train.learning_rate=1e-3")
    with subprocess.Popen(
        command, cwd=workspace.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as stopped:
        starts = (line for line in stopped.stdout or [] if line.startswith("Epoch 1/50"))
        assert len(list(islice(starts, 2))) == 2
        os.killpg(stopped.pid, signal.SIGINT)
        assert stopped.wait() == 130
        folders = [process.info["cwd"] or "" for process in psutil.process_iter(["cwd"])]
        assert not [folder for folder in folders if folder.startswith(str(workspace.path))], "DVC has ended before"
        printed = (stopped.stdout and stopped.stdout.read()) or ""
    assert "seeds: stopped; the same command goes on from the runs that have finished" in printed
    assert workspace.run("git", "status", "--porcelain") == ""

    printed = workspace.run(*command)
    assert printed.count("Epoch 1/50") == 1, "the first seed comes from the cache"
    [row] = re.findall(r"^\| train_loss \| (.+) ± (.+) \| (.+) (.+) \|$", printed, re.MULTILINE)
    average, spread, first, second = map(float, row)
    assert first != second
    assert abs(average - (first + second) / 2) < 1e-3
    assert abs(spread - abs(first - second) / 2**0.5) < 1e-3
    [names] = re.findall(r"^\| experiment \| \| (.+) \|$", printed, re.MULTILINE)
    results = shown(workspace)
    assert [results[name]["train_loss"] for name in names.split()] == [first, second]
    assert workspace.run("git", "status", "--porcelain") == ""
    again = workspace.run(*command)
    assert "Epoch" not in again
    assert f"| {first:.4f} {second:.4f} |" in again


def test_a_run_of_several_that_failed_is_named(workspace: Workspace) -> None:
    elsewhere = Workspace(workspace.path.parent)
    printed = elsewhere.run("python", "clone/tools/seeds.py", "2", "-S", "train.learning_rate=1e9", ok=False)
    assert "lower `train.learning_rate`" in printed
    assert printed.endswith("seeds: the run with train.seed=0 failed\n")
    assert "Could not override 'train.lr'" in workspace.run(*SEEDS, "-S", "train.lr=1", ok=False)
    assert "seeds: train.seed is what differs" in workspace.run(*SEEDS, "-S", "train.seed=1", ok=False)
    assert "seeds: Invalid value" in workspace.run(*SEEDS[:2], "0", ok=False)


def test_a_run_is_watched_by_dvcs_tables_and_plots(workspace: Workspace) -> None:
    command = ["dvc", "exp", "run", "--set-param", "train.epochs=100"]
    with subprocess.Popen(
        command, cwd=workspace.path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        # The line of an epoch comes before its results are written: those of the third are there by now.
        assert any(line.startswith("Epoch 4/100") for line in run.stdout or [])
        with suspended(run):
            assert 3 <= shown(workspace)["workspace"]["epoch"] < 100
            plots = json.loads(workspace.run("dvc", "plots", "show", "--json"))["data"]
            assert len(plots["Loss"][0]["content"]["data"]["values"]) >= 2 * 3
        os.killpg(run.pid, signal.SIGINT)
        run.communicate()


def on_a_terminal(workspace: Workspace, *command: str) -> str:
    """What the command prints when a person watches it."""
    terminal, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 100))
    printed = b""
    with subprocess.Popen(command, cwd=workspace.path, stdout=side, stderr=side):
        os.close(side)
        with contextlib.suppress(OSError):  # which a terminal ends with
            while chunk := os.read(terminal, 4096):
                printed += chunk
    os.close(terminal)
    return printed.decode()


def test_a_terminal_shows_the_time_left_and_a_log_plain_lines(workspace: Workspace, finished: Workspace) -> None:
    seen, logged = on_a_terminal(workspace, "dvc", "repro", "--force", "--single-item", "train"), finished.printed
    assert "/256 [" in seen
    assert "batch/s" in seen
    for printed in (seen, logged):
        assert "Epoch 8/8: train_loss " in printed
    assert "batch/s" not in logged

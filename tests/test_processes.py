"""Several processes train as one: torchrun starts them, each takes a share of every batch, the first one writes."""

import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import Workspace, ran
from test_killed import Moment, killed

# As the README says; setpriv makes torchrun end with DVC.
TORCHRUN = "setpriv --pdeathsig KILL torchrun --standalone --nproc-per-node 2 --local-ranks-filter 0"


@pytest.fixture
def plain(workspace: Workspace) -> Workspace:
    """Without what each process draws for its own share of the images."""
    workspace.set(train={"flip": False})
    return workspace


def trained(workspace: Workspace) -> tuple[dict[str, torch.Tensor], str]:
    """The weights and the curves."""
    weights = torch.load(workspace.path / "model.pth", weights_only=True)
    return weights, (workspace.path / "curves.csv").read_text()


def assert_agree(one: Workspace, two: Workspace) -> None:
    (weights, curves), (others, other_curves) = trained(one), trained(two)
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, atol=1e-4, rtol=0)
    for row, other in zip(curves.splitlines()[1:], other_curves.splitlines()[1:], strict=True):
        assert [float(value) for value in other.split(",")] == pytest.approx(
            [float(v) for v in row.split(",")], abs=1e-3
        )


def two_nodes(folder: Path) -> Path:
    """A script that starts what srun would: torchrun on each of two nodes, which meet at a port of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    node = f"torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint {endpoint}"
    script = folder / "srun.sh"
    script.write_text(f'{node} "$@" & {node} "$@"; wait\n')
    return script


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_agree_with_one(nodes: int, plain: Workspace, tmp_path: Path) -> None:
    two = plain.copy(tmp_path / "two")
    assert "train" in ran(plain.run("dvc", "repro"))
    two.set(launch={"train": TORCHRUN if nodes == 1 else f"sh {two_nodes(tmp_path)}"})
    printed = two.run("dvc", "repro")
    assert "train" in ran(printed)
    assert printed.count("Epoch 8/8") == nodes  # each node shows its first process
    assert_agree(plain, two)
    assert ran(two.run("dvc", "repro")) == []


@pytest.mark.parametrize(("before", "after"), [("python", TORCHRUN), (TORCHRUN, "python")])
def test_a_killed_run_goes_on_with_another_number_of_processes(
    before: str, after: str, plain: Workspace, tmp_path: Path
) -> None:
    other = plain.copy(tmp_path / "other")
    assert "train" in ran(plain.run("dvc", "repro"))
    other.set(launch={"train": before})
    killed(other, Moment("train", "os.rename", "tmp/checkpoint.tmp", 3, "SIGKILL", "self"))
    other.set(launch={"train": after})
    assert "Going on after epoch 2\n" in other.run("dvc", "repro")
    assert_agree(plain, other)


def test_more_processes_than_images_in_a_batch_are_refused(plain: Workspace) -> None:
    plain.set(launch={"train": TORCHRUN}, train={"batch_size": 1})
    printed = plain.run("dvc", "repro", ok=False)
    assert "--batch_size 1: a batch has fewer images than the 2 processes of `launch.train`" in printed


def training(workspace: Workspace) -> list[psutil.Process]:
    """The processes that train in the workspace, and torchrun."""
    found = psutil.process_iter(["cwd", "cmdline"])
    return [
        process
        for process in found
        if process.info["cwd"] == str(workspace.path) and "stages/train.py" in (process.info["cmdline"] or [])
    ]


@pytest.mark.parametrize("dead", ["rank 1", "dvc"])
def test_a_dead_process_ends_them_all(dead: str, plain: Workspace) -> None:
    plain.set(launch={"train": TORCHRUN}, train={"epochs": 1000})
    command = ["dvc", "repro"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=plain.path, stdout=pipe, stderr=subprocess.STDOUT, text=True) as run:
        lines = iter(run.stdout or [])
        assert any(line.startswith("Epoch 1/1000") for line in lines)
        if dead == "dvc":
            run.kill()
        else:
            [second] = [each for each in training(plain) if each.environ().get("RANK") == "1"]
            second.kill()
        printed = "".join(lines)
    assert run.returncode != 0
    for _ in range(100):
        if not training(plain):
            break
        time.sleep(0.1)
    assert training(plain) == []
    assert not (plain.path / "model.pth").exists()
    if dead == "rank 1":
        assert "Signal 9 (SIGKILL) received by PID" in printed
        assert "failed to reproduce 'train'" in printed

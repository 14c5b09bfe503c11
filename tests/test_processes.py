"""Several processes train as one: torchrun starts them, each takes a share of every batch, the first one writes."""

from pathlib import Path
import subprocess
import time

from faults import Moment, killed
from processes import check_batches
from project import Workspace, ran
import psutil
import pytest
from servers import free_ports
import torch

# As docs/more-machines.md says; setpriv makes torchrun end with DVC.
TORCHRUN = "setpriv --pdeathsig KILL torchrun --standalone --nproc-per-node 2 --local-ranks-filter 0"


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


def two_nodes(folder: Path, change: str = "") -> Path:
    """A script that starts what srun would: torchrun on each of two nodes, which meet at a port of the first.

    The second node's command is changed by sed.
    """
    [port] = free_ports(1)
    node = f"torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{port}"
    script = folder / "srun.sh"
    script.write_text(f'{node} "$@" & first=$!; {node} $(echo "$@" | sed "{change}"); wait $first\n')
    return script


def test_two_processes_agree_with_one(workspace: Workspace, tmp_path: Path) -> None:
    workspace.set(train={"shift": 2})
    workspace.run("dvc", "repro", "train")
    for nodes, launch in {1: TORCHRUN, 2: f"sh {two_nodes(tmp_path)}"}.items():
        two = workspace.copy(tmp_path / str(nodes))
        two.set(launch={"train": launch})
        printed = two.run("dvc", "repro", "train")
        assert ran(printed) == ["train"]
        assert printed.count("Epoch 8/8") == nodes  # each node shows its first process
        assert_agree(workspace, two)
        assert ran(two.run("dvc", "repro", "train")) == []


def test_a_killed_run_resumes_with_another_number_of_processes(
    fresh: Workspace, finished: Workspace, tmp_path: Path
) -> None:
    workspace = fresh.copy(tmp_path / "clone")
    third_checkpoint = Moment("train", "os.rename", "tmp/checkpoint.tmp", 3, "SIGKILL", "self")
    killed(workspace, third_checkpoint)
    workspace.set(launch={"train": TORCHRUN})
    assert "Resuming after epoch 2\n" in killed(workspace, third_checkpoint)
    workspace.set(launch={"train": "python"})
    assert "Resuming after epoch 4\n" in workspace.run("dvc", "repro", "train")
    assert_agree(finished, workspace)


def test_processes_of_another_run_do_not_join(workspace: Workspace, tmp_path: Path) -> None:
    """As two jobs would that meet at the same port."""
    workspace.set(launch={"train": f"sh {two_nodes(tmp_path, 's/--seed 0/--seed 1/')}"})
    printed = workspace.run("dvc", "repro", ok=False)
    refused = "launch.train: processes with other values, data, code or packages have joined this run; give each"
    assert printed.count(refused) == 2
    assert "Epoch 1" not in printed
    assert not (workspace.path / ".dvc" / "tmp" / "checkpoint").exists()


def test_two_processes_train_what_the_recipes_do(workspace: Workspace) -> None:
    values = {"epochs": 2, "optimizer": "muon", "shift": 1, "precision": "bf16"}
    workspace.set(launch={"train": TORCHRUN}, train=values, model={"network": "resnet", "width": 4})
    assert ran(workspace.run("dvc", "repro", "train")) == ["train"]
    model = (workspace.path / "model.pth").read_bytes()
    workspace.run("dvc", "repro", "--force", "--single-item", "train")
    assert (workspace.path / "model.pth").read_bytes() == model


@pytest.mark.parametrize(("size", "batch_size"), [(500, 1), (65, 64), (1, 64)])
def test_more_processes_than_images_in_a_batch_are_refused(size: int, batch_size: int) -> None:
    message = (
        f"^--batch_size {batch_size}: the smallest batch has 0 images for each process of `launch.train` \\(2\\), and"
    )
    with pytest.raises(SystemExit, match=message):
        check_batches(size, batch_size, processes=2, least=1)
    check_batches(size + 1, 64, processes=2, least=1)


def training(workspace: Workspace) -> list[psutil.Process]:
    """The processes that train in the workspace, and torchrun."""
    found = psutil.process_iter(["cwd", "cmdline"])
    return [
        process
        for process in found
        if process.info["cwd"] == str(workspace.path) and "stages/train.py" in (process.info["cmdline"] or [])
    ]


@pytest.mark.parametrize("dead", ["rank 1", "dvc"])
def test_a_dead_process_ends_them_all(dead: str, workspace: Workspace) -> None:
    workspace.set(launch={"train": TORCHRUN}, train={"epochs": 1000})
    command = ["dvc", "repro"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=workspace.path, stdout=pipe, stderr=subprocess.STDOUT, text=True) as run:
        lines = iter(run.stdout or [])
        assert any(line.startswith("Epoch 1/1000") for line in lines)
        if dead == "dvc":
            run.kill()
        else:
            [second] = [each for each in training(workspace) if each.environ().get("RANK") == "1"]
            second.kill()
        printed = "".join(lines)
    assert run.returncode != 0
    for _ in range(100):
        if not training(workspace):
            break
        time.sleep(0.1)
    assert training(workspace) == []
    assert not (workspace.path / "model.pth").exists()
    if dead == "rank 1":
        assert "Signal 9 (SIGKILL) received by PID" in printed
        assert "failed to reproduce 'train'" in printed

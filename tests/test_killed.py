"""A run that is killed, wherever, needs no clean-up: the next one resumes and ends with the same bytes."""

import os
from pathlib import Path
import shutil
import subprocess

from check import is_whole
from faults import Moment, killed, suspended
from project import Workspace, downstream, ran, results
import pytest

CHAINS = {
    "download": [
        Moment("download", "import", "command", 1, "SIGKILL", "dvc"),
        Moment("download", "open", "raw/train-labels-idx1-ubyte.tmp", 1, "SIGKILL", "self"),
        Moment("download", "os.rename", "raw/train-labels-idx1-ubyte.tmp", 1, "SIGTERM", "self"),
        Moment("download", "open", "raw/train-images-idx3-ubyte.tmp", 1, "SIGINT", "group"),
        Moment("download", "os.rename", "raw/t10k-images-idx3-ubyte.tmp", 1, "SIGKILL", "dvc"),
        Moment("download", "os.rename", "FashionMNIST.tmp/verified", 1, "SIGKILL", "both"),
        Moment("download", "shutil.rmtree", "data/FashionMNIST.tmp", 1, "SIGTERM", "both"),
        Moment("", "os.chmod", "", 12, "SIGKILL", "self"),
        Moment("", "open", "dvc.lock", 1, "SIGTERM", "self"),
    ],
    "train": [
        Moment("train", "import", "command", 1, "SIGTERM", "dvc"),
        Moment("train", "open", "tmp/checkpoint.tmp", 1, "SIGKILL", "self"),
        Moment("train", "os.rename", "tmp/checkpoint.tmp", 2, "SIGTERM", "self", finished=1),
        Moment("train", "open", "curves.csv.tmp", 2, "SIGINT", "group", finished=2),
        Moment("train", "os.rename", "training.json.tmp", 2, "SIGKILL", "both", finished=3),
        Moment("train", "os.rename", "tmp/checkpoint.tmp", 2, "SIGKILL", "dvc", finished=4),
        Moment("train", "open", "tmp/checkpoint.tmp", 3, "SIGKILL", "group", finished=6),
        Moment("train", "open", "model.pth.tmp", 1, "SIGKILL", "self", finished=8),
        Moment("train", "os.rename", "model.pth.tmp", 1, "SIGINT", "self", finished=8),
        Moment("train", "os.remove", "tmp/checkpoint", 1, "SIGTERM", "both", finished=8),
        Moment("", "os.chmod", "", 1, "SIGKILL", "self"),  # DVC, as it stores the finished model
    ],
    "evaluate and predict": [
        Moment("evaluate", "import", "torch", 1, "SIGINT", "group"),
        Moment("evaluate", "open", "confusion.csv.tmp", 1, "SIGKILL", "self"),
        Moment("evaluate", "os.rename", "confusion.csv.tmp", 1, "SIGKILL", "dvc"),
        Moment("evaluate", "os.rename", "metrics.json.tmp", 1, "SIGINT", "group"),
        Moment("predict", "open", "predictions.csv.tmp", 1, "SIGTERM", "both"),
        Moment("predict", "os.rename", "predictions.csv.tmp", 1, "SIGKILL", "self"),
    ],
}


def assert_resumes_after(epochs: int, printed: str) -> None:
    assert "Using cpu device" in printed
    assert ("Resuming after" in printed) is (epochs > 0), printed
    assert f"Resuming after epoch {epochs}\n" in printed or not epochs, printed


@pytest.mark.parametrize("chain", CHAINS)
def test_the_next_run_resumes_and_ends_with_the_same_bytes(
    chain: str, fresh: Workspace, finished: Workspace, tmp_path: Path
) -> None:
    workspace = fresh.copy(tmp_path / "clone")
    epochs = 0
    for moment in CHAINS[chain]:
        printed = killed(workspace, moment)
        if moment.sent == "SIGINT":
            assert printed.count(f"{moment.stage}: stopped; the same command goes on from what has finished\n") == 1
            assert "Traceback" not in printed
        if chain == "train" and moment.event != "import":
            assert_resumes_after(epochs, printed)
            epochs = moment.finished
    printed = workspace.run("dvc", "repro")
    if chain == "train":
        assert_resumes_after(epochs, printed)
    assert results(workspace) == results(finished)
    assert not (workspace.path / ".dvc" / "tmp" / "checkpoint").exists()


def test_make_repro_repairs_a_torn_lock(workspace: Workspace, finished: Workspace) -> None:
    """DVC writes dvc.lock in place: killed meanwhile, it leaves a part of it."""
    lock = workspace.path / "dvc.lock"
    whole = lock.read_text()
    assert is_whole(lock)
    for end in (0, *(int(part * len(whole)) for part in (0.2, 0.6, 0.9)), whole.index("size: 1") + len("size: 1")):
        lock.write_text(whole[:end])
        assert not is_whole(lock)
    assert ran(workspace.run("make", "repro")) == []
    assert results(workspace) == results(finished)


def test_make_repro_makes_a_torn_lock_anew_where_git_does_not_work(
    workspace: Workspace, finished: Workspace, tmp_path: Path
) -> None:
    """As in a folder of another user, of which git wants to know that it is safe."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(shutil.which("false") or "")
    workspace.environment["PATH"] = f"{tmp_path}/bin:{os.environ['PATH']}"
    lock = workspace.path / "dvc.lock"
    lock.write_bytes(lock.read_bytes()[:-100])
    assert ran(workspace.run("make", "repro")) == []
    assert results(workspace) == results(finished)


def test_make_repro_leaves_a_lock_that_it_cannot_check(workspace: Workspace) -> None:
    """In an environment that lacks a package, say."""
    lock = workspace.path / "dvc.lock"
    lock.write_text(changed := lock.read_text().replace("size: ", "size: 1"))
    (workspace.path / "broken" / "cyclopts").mkdir(parents=True)
    (workspace.path / "broken" / "cyclopts" / "__init__.py").write_text("raise ModuleNotFoundError('rich')")
    workspace.environment["PYTHONPATH"] = str(workspace.path / "broken")
    assert "ModuleNotFoundError: rich" in workspace.run("make", "repro", ok=False)
    assert lock.read_text() == changed


def test_a_second_run_in_the_same_workspace_stops_and_harms_nothing(workspace: Workspace) -> None:
    workspace.set(train={"epochs": 50})
    command = ["dvc", "repro", "train"]
    with subprocess.Popen(command, cwd=workspace.path, stdout=subprocess.PIPE, text=True) as first:
        assert any(line.startswith("Epoch 1/50") for line in first.stdout or [])
        with suspended(first):
            assert "is busy, it is being blocked by" in workspace.run("dvc", "repro", ok=False)
        first.communicate(timeout=60)
    assert first.returncode == 0
    assert "up to date" in workspace.run("dvc", "status", "train")


@pytest.mark.parametrize("sent", ["SIGINT", "SIGKILL"])
def test_a_killed_experiment_is_given_up_by_git_checkout_head(
    sent: str, workspace: Workspace, finished: Workspace
) -> None:
    moment = Moment("train", "os.rename", "tmp/checkpoint.tmp", 2, sent, "group" if sent == "SIGINT" else "dvc")
    printed = killed(workspace, moment, "dvc", "exp", "run", "--set-param", "train.epochs=9")
    assert ("train: stopped; the same command goes on from what has finished" in printed) is (sent == "SIGINT")
    workspace.run("git", "checkout", "--quiet", "HEAD", "--", ".")
    assert ran(workspace.run("dvc", "repro")) == []
    assert results(workspace) == results(finished)
    assert workspace.run("git", "status", "--porcelain") == ""


def test_experiments_in_folders_of_their_own_start_clean(fresh: Workspace, finished: Workspace, tmp_path: Path) -> None:
    workspace = fresh.copy(tmp_path / "clone")
    moment = Moment("train", "os.rename", "tmp/checkpoint.tmp", 2, "SIGKILL", "both")
    killed(workspace, moment)
    assert "Resuming" not in killed(workspace, moment, "dvc", "exp", "run", "--temp")
    workspace.run("dvc", "exp", "run", "--queue", "--name", "queued")
    printed = workspace.run("dvc", "exp", "run", "--run-all")
    assert sorted(ran(printed)) == sorted(downstream("train"))
    assert "Resuming" not in printed
    workspace.run("dvc", "exp", "apply", "queued")
    assert results(workspace) == results(finished)

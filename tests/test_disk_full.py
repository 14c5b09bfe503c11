"""A full disk ends a run with a clear error and harms nothing; the next run with space succeeds."""

from collections.abc import Iterator
from pathlib import Path
import shutil
import subprocess

from project import Workspace, ran, results
import pytest


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounting.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounting.stderr}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path, free: int) -> None:
    """Leave so many KiB free."""
    (disk / "filler").unlink(missing_ok=True)
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 1024 * free))


def fails(workspace: Workspace, at: str) -> None:
    """The run ends because it cannot write the path."""
    printed = workspace.run("make", "repro", ok=False)
    [*_, line] = [line for line in printed.splitlines() if "No space left on device: " in line]
    assert at in line
    assert "Traceback" not in printed


def test_the_next_run_with_space_ends_with_the_same_bytes(fresh: Workspace, finished: Workspace, disk: Path) -> None:
    workspace = fresh.copy(disk / "clone")
    # The dataset takes 630 KiB, and again in the cache.
    for free, path in {
        100: "raw/train-images-idx3-ubyte",
        600: "raw/t10k-images-idx3-ubyte",
        700: ".dvc/cache",
    }.items():
        fill(disk, free)
        fails(workspace, path)
    (disk / "filler").unlink()
    (workspace.path / "dvc.lock").unlink(missing_ok=True)  # torn, perhaps: `make repro` would mend it
    workspace.run("dvc", "repro", "download")
    for free in (0, 250):  # a checkpoint takes 220 KiB, and the next one again
        fill(disk, free)
        fails(workspace, ".dvc/tmp/checkpoint")
    (disk / "filler").unlink()
    workspace.run("make", "repro")
    assert results(workspace) == results(finished)


def test_the_last_good_results_stay(finished: Workspace, disk: Path) -> None:
    workspace = finished.copy(disk / "clone")
    workspace.set(train={"seed": 1})
    fill(disk, 100)
    fails(workspace, "curves.csv")
    (disk / "filler").unlink()
    workspace.run("git", "checkout", "--quiet", "params.yaml")
    assert ran(workspace.run("dvc", "repro")) == []
    assert results(workspace) == results(finished)

"""Faults on purpose: kills a run at a moment that is named, and flips bytes that DVC trusts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import json
import os
from pathlib import Path
import signal
import subprocess
import time
from typing import NamedTuple

from project import Workspace, outputs
import psutil

HOOK = Path(__file__).parent / "killing"


class Moment(NamedTuple):
    """When and whom to kill, in the words of killing/sitecustomize.py, and the epochs that are finished by then."""

    stage: str
    event: str
    path: str
    count: int
    sent: str
    to: str
    finished: int = 0


def start(workspace: Workspace, moment: Moment, *command: str) -> subprocess.Popen[str]:
    """Start the command, which sends the signal at the moment."""
    kill = {field: value for field, value in moment._asdict().items() if field != "finished"}
    return subprocess.Popen(
        command,
        cwd=workspace.path,
        env=os.environ
        | workspace.environment
        | {"PYTHONPATH": str(HOOK), "KILL": json.dumps(kill), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def killed(workspace: Workspace, moment: Moment, *command: str) -> str:
    """Run `dvc repro`, or the command, and kill at the moment; returns what its processes printed until they ended."""
    run = start(workspace, moment, *(command or ("dvc", "repro")))
    try:
        printed, _ = run.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    assert run.returncode != 0, f"{moment} did not stop the run:\n{printed}"
    if moment.to == "dvc":
        written = [(workspace.path / out).exists() for out in outputs(moment.stage)]
        assert not all(written), f"{moment}: the stage lived on without DVC"
    return printed


def changed(workspace: Workspace, moment: Moment, change: Callable[[], object], *command: str) -> tuple[int, str]:
    """Run `dvc repro`, or the command, with a change while its stage stands still at the moment, stopped by SIGSTOP.

    Returns the status and what was printed.
    """
    with start(workspace, moment, *(command or ("dvc", "repro"))) as run:
        stage, deadline = None, time.monotonic() + 60
        while not stage:
            assert run.poll() is None and time.monotonic() < deadline, f"the run did not come to {moment}"
            with suppress(psutil.NoSuchProcess):
                children = psutil.Process(run.pid).children()
                stage = next((each for each in children if each.status() == psutil.STATUS_STOPPED), None)
            time.sleep(0.1)
        try:
            change()
        finally:
            stage.resume()
        printed, _ = run.communicate(timeout=60)
    return run.returncode, printed


@contextmanager
def suspended(run: subprocess.Popen[str]) -> Iterator[None]:
    """The stage that DVC runs stands still meanwhile."""
    [stage] = psutil.Process(run.pid).children()
    stage.suspend()
    try:
        yield
    finally:
        stage.resume()


def flip(file: Path) -> None:
    """Change one byte behind DVC's back: size, times and mode stay."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(before.st_mode)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

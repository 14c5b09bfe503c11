"""What computes is what the section says, whatever the environment, and other processors compute the same bits."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

from compute import PORTABLE, place, set_up
from faults import Moment, killed
from model import MLP
from project import ROOT, Workspace, outputs, results
import pytest
import torch
from values import COMPUTE
import yaml

SCRIPT = """
from command import run
from compute import Compute, set_up
import torch
def stage(*, compute: Compute) -> None:
    set_up(compute)
    torch.manual_seed(0)
    images, weights = torch.randn(64, 784), torch.randn(784, 512) / 28
    outputs = images @ weights
    print(*(each.sum(dtype=float).item() for each in (outputs, outputs.exp(), images.T @ outputs)))
run(stage)
"""


def computed(kernels: str, ok: bool = True, on: Sequence[str] = (), **environment: str) -> str:
    """What a process with that environment computes, or says; `on` is the emulator of a processor."""
    command = [*on, sys.executable, "-c", SCRIPT, "--device=cpu", "--threads=2", f"--kernels={kernels}"]
    done = subprocess.run(command, cwd=ROOT / "stages", env=os.environ | environment, capture_output=True, text=True)
    assert (done.returncode == 0) is ok, done.stderr
    return done.stdout if ok else done.stderr


LEAKS = {
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@pytest.mark.parametrize("kernels", ["native", "portable"])
def test_the_environment_changes_no_digit(kernels: str) -> None:
    assert computed(kernels, **LEAKS) == computed(kernels)


@pytest.mark.parametrize(("name", "value"), [("OMP_THREAD_LIMIT", "1"), ("OMP_DYNAMIC", "true")])
def test_an_environment_that_overrides_the_number_of_threads_is_refused(name: str, value: str) -> None:
    message = computed("portable", ok=False, **{name: value})
    assert message.startswith(f"{name} is ") and message.endswith("; unset it\n")


def test_an_environment_that_allows_the_number_of_threads_is_not() -> None:
    computed("portable", OMP_DYNAMIC="false", OMP_THREAD_LIMIT="64")


def test_where_kernels_cannot_be_portable_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compute.platform.machine", lambda: "aarch64")
    portable = replace(COMPUTE, kernels="portable")
    network = place(MLP(8), portable, set_up(portable))
    assert not PORTABLE.keys() & os.environ.keys()
    assert "the last digits are this machine's own" in capsys.readouterr().out
    assert network(torch.zeros(1, 1, 28, 28)).layout == torch.strided


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = torch.device("cuda")
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: accelerator)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 1)
    monkeypatch.setattr("torch.use_deterministic_algorithms", lambda mode: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # to take back what is set
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit, match=r"launch\.train: more processes than this machine has devices, 1; lower"):
        set_up(replace(COMPUTE, device="cuda"))


@pytest.mark.parametrize("stage", ["train", "evaluate", "predict"])
def test_threads_are_told_to_sleep_before_pytorch_is_imported(stage: str) -> None:
    script = f"""
import os, sys
sys.addaudithook(lambda event, args: event == "import" and args[0] == "torch" and print(os.environ["GOMP_SPINCOUNT"]))
import {stage}
"""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    printed = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT / "stages", env=environment, text=True)
    assert printed.splitlines()[0] == "5000"


QEMU = shutil.which("qemu-x86_64")
PROCESSORS = ("EPYC-Milan", "Haswell")
EMULATE = """
import json, os, shlex, sys
from contextlib import suppress
from importlib import import_module
from command import run
for folder, command in json.load(sys.stdin):
    os.chdir(folder)
    _, _, sys.argv[0], *sys.argv[1:] = shlex.split(command)
    stage = sys.argv[0].removeprefix("stages/").removesuffix(".py")
    with suppress(SystemExit):  # of success, or an output is missing
        run(getattr(import_module(stage), stage))
"""
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 64, "validation_size": 400}
CUTMIX = "mlp with cutmix"  # for one processor: it imports torchvision, which takes an emulator a minute
RUNS: dict[str, dict[str, Any]] = {  # sections of params.yaml
    "mlp": {"train": SMALL, "model": {"hidden_size": 512}},
    "cnn": {
        "train": SMALL | {"optimizer": "muon", "precision": "bf16", "shift": 2, "label_smoothing": 0.1},
        "model": {"network": "cnn", "width": 8},
        "infer": {"test_time_flip": True, "test_time_shift": 1},
    },
    "resnet": {"train": SMALL | {"optimizer": "muon"}, "model": {"network": "resnet", "width": 4}},
    CUTMIX: {"train": SMALL | {"cutmix": 0.5}},
}


def emulate(processor: str, workspaces: Sequence[Workspace], *stages: str) -> str:
    """Run the stages anew on another processor, in one process that starts PyTorch once; returns what it printed."""
    commands = []
    for workspace in workspaces:
        lock = yaml.safe_load((workspace.path / "dvc.lock").read_text())["stages"]
        for stage in stages:
            commands.append((str(workspace.path), lock[stage]["cmd"]))
            for out in outputs(stage):
                (workspace.path / out).unlink()
    done = subprocess.run(
        [QEMU or "", "-cpu", processor, Path(sys.executable).resolve(), "-c", EMULATE],
        input=json.dumps(commands),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "stages"), *filter(None, sys.path)])},
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout


@pytest.mark.skipif(not QEMU, reason="needs Debian's package qemu-user")
def test_other_processors_compute_the_same_bytes(fresh: Workspace, finished: Workspace, tmp_path: Path) -> None:
    here = {name: finished.copy(tmp_path / name) for name in RUNS}
    for name, workspace in here.items():
        workspace.set(compute={"threads": 2, "kernels": "portable"}, **RUNS[name])
        workspace.run("dvc", "repro")
    stopped = fresh.copy(tmp_path / "killed")
    killed(stopped, Moment("train", "os.rename", "tmp/checkpoint.tmp", 6, "SIGKILL", "both"))

    def compare(processor: str) -> None:
        names = [name for name in RUNS if name != CUTMIX or processor == PROCESSORS[0]]
        there = {name: here[name].copy(tmp_path / f"{name} on {processor}") for name in names}
        resumed = finished.copy(tmp_path / f"resumed on {processor}")
        shutil.copy(stopped.path / ".dvc" / "tmp" / "checkpoint", resumed.path / ".dvc" / "tmp")
        # First, because the run's fingerprint has the code that is loaded, and later commands load more.
        printed = emulate(processor, [resumed, *there.values()], "train", "evaluate", "predict")
        assert "Resuming after epoch 5\n" in printed
        assert results(resumed) == results(finished)
        for name, other in there.items():
            assert results(other) == results(here[name]), f"{name} on {processor}"

    with ThreadPoolExecutor() as both:
        list(both.map(compare, PROCESSORS))


@pytest.mark.skipif(not QEMU, reason="needs Debian's package qemu-user")
def test_with_native_kernels_processors_compute_other_bytes() -> None:
    """So that the test above can fail."""
    one, other = (computed("native", on=(QEMU or "", "-cpu", processor)) for processor in PROCESSORS)
    assert one != other

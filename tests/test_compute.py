"""What computes is what the section says, whatever the environment, and other processors compute the same bits."""

from collections.abc import Sequence
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
    images, weights = torch.randn(64, 784), torch.randn(784, 512)
    print((images @ weights).exp().sum(dtype=float).item(), (images @ weights).sum(dtype=float).item())
run(stage)
"""


def computed(kernels: str, ok: bool = True, **environment: str) -> str:
    """What a process with that environment computes, or says."""
    command = [sys.executable, "-c", SCRIPT, "--device=cpu", "--threads=2", f"--kernels={kernels}"]
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
RUNS: dict[str, dict[str, Any]] = {  # sections of params.yaml
    "mlp": {"train": SMALL, "model": {"hidden_size": 512}},
    "cnn": {
        "train": SMALL | {"optimizer": "muon", "precision": "bf16", "shift": 2, "cutmix": 0.5, "label_smoothing": 0.1},
        "model": {"network": "cnn", "width": 8},
        "infer": {"test_time_flip": True, "test_time_shift": 1},
    },
    "resnet": {"train": SMALL | {"optimizer": "muon"}, "model": {"network": "resnet", "width": 4}},
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


def run_small(finished: Workspace, folder: Path, kernels: str, name: str) -> Workspace:
    """A run of that name, on this processor."""
    workspace = finished.copy(folder)
    workspace.set(compute={"threads": 2, "kernels": kernels}, **RUNS[name])
    workspace.run("dvc", "repro")
    return workspace


@pytest.mark.skipif(not QEMU, reason="needs Debian's package qemu-user")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_other_processors_compute_the_same_bytes(
    processor: str, fresh: Workspace, finished: Workspace, tmp_path: Path
) -> None:
    here = [run_small(finished, tmp_path / name, "portable", name) for name in RUNS]
    there = [workspace.copy(tmp_path / f"{workspace.path.name} there") for workspace in here]
    resumed = finished.copy(tmp_path / "resumed there")  # from the checkpoint of a run killed on this processor
    killed(fresh.copy(tmp_path / "killed"), Moment("train", "os.rename", "tmp/checkpoint.tmp", 6, "SIGKILL", "both"))
    shutil.copy(tmp_path / "killed" / ".dvc" / "tmp" / "checkpoint", resumed.path / ".dvc" / "tmp")
    # First, because the run's fingerprint has the code that is loaded, and later commands load more.
    printed = emulate(processor, [resumed, *there], "train", "evaluate", "predict")
    assert "Resuming after epoch 5\n" in printed
    for one, other in zip([finished, *here], [resumed, *there], strict=True):
        assert results(one) == results(other)


@pytest.mark.skipif(not QEMU, reason="needs Debian's package qemu-user")
def test_with_native_kernels_processors_compute_other_bytes(finished: Workspace, tmp_path: Path) -> None:
    """So that the test above can fail."""
    made = run_small(finished, tmp_path / "mlp", "native", "mlp")
    models = []
    for processor in PROCESSORS:
        workspace = made.copy(tmp_path / processor)
        emulate(processor, [workspace], "train")
        models.append((workspace.path / "model.pth").read_bytes())
    assert models[0] != models[1]

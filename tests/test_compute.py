"""What computes is what the section says, whatever the environment, and another processor computes the same bits."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
import json
import os
from pathlib import Path
import resource
import shutil
from statistics import median
import subprocess
import sys
from typing import Any

from compute import PORTABLE, limit_kernels, place, set_up
from faults import Moment, killed
from model import MLP
from project import ROOT, Workspace, arguments, outputs, results
import pytest
import torch
from values import COMPUTE

SCRIPT = """
from command import run
from compute import Compute, set_up
import torch
def stage(*, compute: Compute) -> None:
    set_up(compute)
    torch.manual_seed(0)
    images, weights = torch.randn(64, 784), torch.randn(784, 512) / 28
    outputs = images @ weights
    convolved = torch.nn.functional.conv2d(torch.randn(4, 8, 14, 14), torch.randn(16, 8, 3, 3))
    print(*(each.sum(dtype=float).item() for each in (outputs, outputs.exp(), images.T @ outputs, convolved)))
run(stage)
"""


def computed(kernels: str, emulator: Sequence[str] = (), **environment: str) -> str:
    """What a process with that environment computes, by MKL, PyTorch's own kernels and oneDNN."""
    command = [*emulator, sys.executable, "-c", SCRIPT, "--device=cpu", "--threads=2", f"--kernels={kernels}"]
    return subprocess.check_output(command, cwd=ROOT / "stages", env=os.environ | environment, text=True)


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


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_THREAD_LIMIT", "1"), ("OMP_DYNAMIC", "true"), ("OMP_MAX_ACTIVE_LEVELS", "0")]
)
def test_an_environment_that_overrides_the_number_of_threads_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"^{name} is .*; unset it$"):
        set_up(replace(COMPUTE, threads=2))


def test_an_environment_that_allows_the_number_of_threads_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_DYNAMIC", "false")
    monkeypatch.setenv("OMP_THREAD_LIMIT", "64")
    limit_kernels(COMPUTE, torch.device("cpu"))


def test_where_kernels_cannot_be_portable_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": False})
    portable = replace(COMPUTE, kernels="portable")
    network = place(MLP(8), portable, set_up(portable))
    assert not PORTABLE.keys() & os.environ.keys()
    assert "the last digits are this machine's own" in capsys.readouterr().out
    assert network(torch.zeros(1, 1, 28, 28)).layout == torch.strided


def test_an_accelerator_is_deterministic_and_more_processes_than_devices_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accelerator = torch.device("cuda")
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: accelerator)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 1)
    deterministic: list[bool] = []
    monkeypatch.setattr("torch.use_deterministic_algorithms", deterministic.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit, match=r"launch\.train: more processes than this machine has devices, 1; lower"):
        set_up(replace(COMPUTE, device="cuda"))
    assert (deterministic, os.environ["CUBLAS_WORKSPACE_CONFIG"]) == ([True], ":4096:8")


def test_fp32_has_all_its_bits_on_a_gpu_whatever_the_environment_says() -> None:
    script = """
import os
from compute import Compute, set_up
import torch
set_up(Compute(device="cpu", threads=1, kernels="native"))
print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, "NVIDIA_TF32_OVERRIDE" in os.environ)
"""
    environment = os.environ | {"NVIDIA_TF32_OVERRIDE": "1", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    printed = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT / "stages", env=environment, text=True)
    assert printed.splitlines()[-1] == "False False False"


@pytest.mark.skipif(sys.platform != "linux", reason="malloc of glibc")
def test_memory_that_a_step_frees_serves_the_next_one() -> None:
    set_up(replace(COMPUTE, threads=torch.get_num_threads()))
    faults = []
    for _ in range(11):
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
        torch.ones(2**24)
    assert median(after - before for before, after in pairwise(faults)) < 10


@pytest.mark.skipif(torch.accelerator.is_available(), reason="a GPU is here")
def test_a_device_that_is_not_here_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="--device cuda: not on this machine; choose auto or cpu"):
        set_up(replace(COMPUTE, device="cuda"))
    assert set_up(replace(COMPUTE, device="auto")) == torch.device("cpu")
    assert capsys.readouterr().out == "Using cpu device\n"


def test_threads_are_told_to_sleep_before_pytorch_is_imported() -> None:
    script = """
import os, sys
def stop(event, arguments):
    if event == "import" and arguments[0] == "torch":
        print(os.environ["GOMP_SPINCOUNT"], flush=True)
        os._exit(0)
sys.addaudithook(stop)
import train
"""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    printed = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT / "stages", env=environment, text=True)
    assert printed == "5000\n"


RUN = """
import json, os, sys
from contextlib import suppress
from importlib import import_module
from command import run
for folder, stage, arguments in json.load(sys.stdin):
    os.chdir(folder)
    sys.argv = arguments
    with suppress(SystemExit):  # an output is missing
        run(getattr(import_module(stage), stage))
"""
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 64, "validation_size": 400}
RUNS: dict[str, dict[str, Any]] = {  # sections of params.yaml
    "mlp": {"train": SMALL, "model": {"hidden_size": 512}},
    "cnn": {
        "train": SMALL | {"optimizer": "muon", "precision": "auto", "shift": 2, "label_smoothing": 0.1},
        "model": {"network": "cnn", "width": 8},
        "infer": {"test_time_flip": True, "test_time_shift": 1},
    },
    "resnet": {
        "train": SMALL | {"optimizer": "muon", "precision": "bf16", "cutmix": 0.5},
        "model": {"network": "resnet", "width": 4},
    },
}


@pytest.fixture
def emulator() -> list[str]:
    """Starts a command on a processor of the other maker, because MKL tells AMD and Intel apart."""
    qemu = shutil.which("qemu-x86_64")
    if not qemu:
        pytest.skip("needs Debian's package qemu-user")
    is_amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    return [qemu, "-cpu", "Haswell" if is_amd else "EPYC-Milan"]


def run_anew(workspaces: Sequence[Workspace], emulator: Sequence[str] = ()) -> str:
    """Run all but `download` anew, in one process that starts PyTorch once; returns what it printed."""
    runs = []
    for workspace in workspaces:
        for stage in ("train", "evaluate", "predict"):
            runs.append((str(workspace.path), stage, arguments(stage, workspace.path)))
            for out in outputs(stage):
                (workspace.path / out).unlink(missing_ok=True)
    return subprocess.run(
        [*emulator, Path(sys.executable).resolve(), "-c", RUN],
        input=json.dumps(runs),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "stages"), *filter(None, sys.path)])},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout


def test_another_processor_computes_the_same_bytes(finished: Workspace, tmp_path: Path, emulator: list[str]) -> None:
    here = {name: finished.copy(tmp_path / name) for name in RUNS}
    for name, workspace in here.items():
        workspace.set(compute={"threads": 2, "kernels": "portable"}, **RUNS[name])
    run_anew([*here.values()])
    there = {name: workspace.copy(tmp_path / f"{name} there") for name, workspace in here.items()}
    stopped = finished.copy(tmp_path / "stopped")
    moment = Moment("train", "os.rename", "tmp/checkpoint.tmp", 6, "SIGKILL", "both")
    killed(stopped, moment, "dvc", "repro", "--force", "--single-item", "train")
    # First, because the run's fingerprint has the code that is loaded, and later runs load more.
    printed = run_anew([stopped, *there.values()], emulator)
    assert "Resuming after epoch 5\n" in printed
    assert results(stopped) == results(finished)
    for name, workspace in there.items():
        assert results(workspace) == results(here[name]), name


def test_native_kernels_compute_other_bytes_on_another_processor(emulator: list[str]) -> None:
    """So that the test above can fail."""
    assert computed("native", emulator) != computed("native")

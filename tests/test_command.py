"""A wrong value in params.yaml ends the stage with one line that names its key; stages start and end quickly."""

from collections.abc import Iterator
from importlib import import_module
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

from command import run
from dvc.exceptions import DvcException
from dvc.utils.serialize import dump_yaml, loads_yaml
from project import PARAMS, ROOT, STAGES, Workspace, arguments, ran, run_in_process, sections
import pytest

WRONG_TYPES = {
    bool: ["yes", 3],
    int: ["five", 2.5, True, False, [1, 2]],
    float: ["fast", True],
    str: [3, True],
    list: [3],
}
OUT_OF_RANGE = {
    "timeout": [0],
    "network": ["transformer", "alexnet"],
    "hidden_size": [0, 10**5],
    "width": [1, 10**5],
    "blocks": [-1, 1000],
    "optimizer": ["adam"],
    "device": ["tpu", "mps"],
    "threads": [0, 2000],
    "kernels": ["fast"],
    "seed": [-1, 2**64],
    "epochs": [0, 10**9],
    "batch_size": [0],
    "learning_rate": [0, -1, float("inf"), float("-inf"), float("nan")],
    "schedule": ["cosine"],
    "momentum": [-0.1, 1, float("nan")],
    "label_smoothing": [-0.1, 1],
    "cutmix": [-0.1, 1.1],
    "shift": [-1, 28],
    "test_time_shift": [-1, 28],
    "top": [0, 11],
    "precision": ["fp16"],
    "validation_size": [-1, 600],
    "classes": [["one", "two"], ["one"] * 10],
    "index": [-1, 200],
    "sources": [[], ["file:///nowhere"]],
}


def wrong_values() -> Iterator[tuple[str, str, Any]]:
    for section, values in PARAMS.items():
        for key, value in values.items():
            yield from ((section, key, wrong) for wrong in [*WRONG_TYPES[type(value)], *OUT_OF_RANGE.get(key, [])])
            yield from ((section, key, wrong) for wrong in [None, "", {"one": 1}, ["one", "two"]])


def run_stage_that_reads(section: str) -> str:
    """Run, in this process, the first stage that DVC gives the section to; returns how it ends."""
    stage = next(name for name, body in STAGES.items() if f"${{{section}}}" in body["cmd"])
    return run_stage(stage, *arguments(stage, Path.cwd())[1:])


def run_stage(stage: str, *options: str) -> str:
    """Run the stage in this process; returns how it ends."""
    return run_in_process(lambda: run(getattr(import_module(stage), stage)), "", *options)


@pytest.fixture
def params(shared: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, Any]]]:
    """The values in params.yaml, where a test may write others until it ends."""
    monkeypatch.chdir(shared.path)
    before = Path("params.yaml").read_bytes()
    yield loads_yaml(before)
    Path("params.yaml").write_bytes(before)


@pytest.mark.parametrize(("section", "key", "wrong"), list(wrong_values()))
def test_a_wrong_value_is_named(section: str, key: str, wrong: Any, params: dict[str, dict[str, Any]]) -> None:
    params[section][key] = wrong
    dump_yaml("params.yaml", params)
    message = run_stage_that_reads(section)
    assert key in message
    assert "\n" not in message or key == "sources"


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
def test_an_infinite_number_and_nan_are_called_no_number(wrong: float, params: dict[str, dict[str, Any]]) -> None:
    params["train"]["learning_rate"] = wrong
    dump_yaml("params.yaml", params)
    expected = f"train: Invalid value for --learning_rate: {wrong} is not a number. (see params.yaml)"
    assert run_stage_that_reads("train") == expected


def test_the_name_of_a_class_may_look_like_an_option(workspace: Workspace) -> None:
    workspace.set(labels={"classes": ["-a", "--top", "-1", "-", *"abcdef"]})
    assert ran(workspace.run("dvc", "repro")) == [stage for stage in STAGES if "labels" in sections(stage)]
    assert (workspace.path / "classes.csv").read_text().splitlines()[1].startswith("-a,")


def test_what_a_terminal_has_no_letters_for_is_escaped(workspace: Workspace) -> None:
    workspace.set(labels={"classes": [f"Ärmel {number}" for number in range(10)]})
    workspace.environment["PYTHONIOENCODING"] = "ascii"
    assert '"\\xc4rmel ' in workspace.run("python", "tools/classify.py", "model.pth", "data/pictures")


def test_a_number_in_place_of_true_or_false_is_not_looked_for_in_other_keys(params: dict[str, dict[str, Any]]) -> None:
    params["train"]["flip"] = params["model"]["blocks"]
    dump_yaml("params.yaml", params)
    assert run_stage_that_reads("train") == "train: --flip is true or false, not 1 (see params.yaml)"


@pytest.mark.parametrize(("section", "key"), [(section, key) for section in PARAMS for key in PARAMS[section]])
@pytest.mark.parametrize("spelling", [None, "{}s", "my_{}"])
def test_a_missing_or_misspelt_key_is_named(
    spelling: str | None, section: str, key: str, params: dict[str, dict[str, Any]]
) -> None:
    value = params[section].pop(key)
    if spelling:
        params[section][spelling.format(key)] = value
    dump_yaml("params.yaml", params)
    message = run_stage_that_reads(section)
    assert f"{section}.{key} is missing from params.yaml" in message
    assert spelling is None or spelling.format(key) in message or spelling == "my_{}"


@pytest.mark.parametrize("section", PARAMS)
def test_a_missing_section_is_named(section: str, params: dict[str, dict[str, Any]]) -> None:
    del params[section]
    dump_yaml("params.yaml", params)
    with pytest.raises(DvcException, match=f"Could not find '{section}'"):
        run_stage_that_reads(section)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_its_arguments_names_the_command_that_gives_them(stage: str) -> None:
    message = run_stage(stage)
    assert message.endswith("(the stages are run by `dvc repro`)") and "\n" not in message


@pytest.mark.parametrize("script", [*(f"stages/{stage}.py" for stage in STAGES), "tools/classify.py"])
def test_a_python_without_the_packages_says_so(script: str) -> None:
    done = subprocess.run([sys.executable, "-S", ROOT / script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("No module named 'cyclopts' in ") and done.stderr.count("\n") == 1
    assert "`. .venv/bin/activate`" in done.stderr


def test_make_does_without_a_setting_of_python_that_hides_our_modules(workspace: Workspace) -> None:
    """And what follows a stage does not run when its output is the same."""
    workspace.environment["PYTHONSAFEPATH"] = "1"
    workspace.set(download={"timeout": 31})
    assert ran(workspace.run("make", "repro")) == ["download"]


def test_a_lost_setting_of_dvc_is_named(workspace: Workspace) -> None:
    (workspace.path / ".dvc" / "config").write_text("")
    workspace.set(download={"sources": [*PARAMS["download"]["sources"], "file:///nowhere"]})
    assert "(or .dvc/config lacks `parsing`), not " in workspace.run("dvc", "repro", ok=False)
    workspace.run("git", "checkout", "--quiet", "params.yaml")
    assert "is missing from params.yaml, or `parsing` from .dvc/config" in workspace.run("dvc", "repro", ok=False)


def test_a_stage_without_dvc_says_so() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "stages" / "download.py"],
        env=os.environ | {"DVC_STAGE": "download"},
        start_new_session=True,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("DVC has ended") and done.stderr.count("\n") == 1


def test_a_stage_whose_dvc_ended_during_its_imports_ends(tmp_path: Path) -> None:
    """Also where what adopts it is of the same session, such as the shell that is a container's first process."""
    stage = """
import os, time
parent = os.getppid()
import command
open("imported", "w").close()
while os.getppid() == parent:
    time.sleep(0.01)
def stage() -> None:
    time.sleep(2)
    print("lived on")
command.run(stage)
"""
    shell = f"""
import ctypes, os, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: adopt
if not os.fork():  # stands for DVC
    subprocess.Popen([sys.executable, "-c", {stage!r}])
    while not os.path.exists("imported"):
        time.sleep(0.01)
    os._exit(0)
os.wait()
_, status = os.wait()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    environment = os.environ | {"DVC_STAGE": "stage", "PYTHONPATH": str(ROOT / "stages")}
    done = subprocess.run([sys.executable, "-c", shell], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr[:13]) == (1, "", "DVC has ended")


def test_garbage_is_not_searched_for_in_what_is_imported_in_a_stage_and_at_its_end() -> None:
    script = """
import atexit, gc, command
assert not gc.isenabled()
def stage() -> None:
    assert gc.isenabled()
    print(gc.get_freeze_count())
    gc.unfreeze()
atexit.register(lambda: print(gc.get_freeze_count()))
command.run(stage)
"""
    counts = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT / "stages", text=True).split()
    assert min(map(int, counts)) > 10_000


def test_a_wrong_value_costs_nothing_of_the_last_good_run(shared: Workspace, params: Any) -> None:
    model, lock = Path("model.pth").read_bytes(), Path("dvc.lock").read_bytes()
    shared.set(train={"epochs": 0})
    printed = shared.run("dvc", "repro", ok=False)
    assert 'train: Invalid value "0" for --epochs. Must be >= 1. (see params.yaml)' in printed
    assert "Traceback" not in printed
    assert Path("dvc.lock").read_bytes() == lock
    shared.run("git", "checkout", "--quiet", "params.yaml")
    shared.run("dvc", "checkout")
    assert Path("model.pth").read_bytes() == model
    assert "up to date" in shared.run("dvc", "repro")

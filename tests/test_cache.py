"""A stage is stale exactly when something it reads has changed, and it reads only its deps."""

import contextlib
from importlib import import_module
import inspect
import os
from pathlib import Path
import re
import shutil
import subprocess
from typing import Any

from dvc.utils.serialize import dumps_yaml, load_yaml
from faults import Moment, changed
import inputs
from project import (
    ALL,
    PARAMS,
    ROOT,
    STAGES,
    Workspace,
    modules,
    outputs,
    packages,
    pinned,
    pins,
    ran,
    results,
    scratch,
    script,
    sections,
    stale,
)
import pytest

TRACKED = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
CODE = [name for name in TRACKED if name.startswith("stages/") and name.endswith(".py")]
DATA = [
    name
    for name in TRACKED
    if name.startswith(("data/", "stages/")) and not name.endswith((".gitignore", ".gitkeep", ".LICENSE", ".py"))
]
NEITHER = [
    "Makefile",
    "README.md",
    "data/FashionMNIST.LICENSE",
    "recipes/best",
    "tests/project.py",
    "tools/classify.py",
]


@pytest.fixture(scope="module")
def shared(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace with every stage, for the tests that take their changes back."""
    workspace = finished.copy(tmp_path_factory.mktemp("shared") / "clone")
    workspace.set(export={"formats": ["onnx"]})
    assert ran(workspace.run("dvc", "repro")) == ["export@onnx"]
    workspace.commit("Export")
    return workspace


def other(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case list():
            return value[::-1] if len(value) > 1 else [*value, "other"]
        case str():
            return f"other {value}"
        case _:
            return value + 1


@pytest.mark.parametrize(("section", "key"), [(section, key) for section in PARAMS for key in PARAMS[section]])
def test_a_changed_value_makes_those_stale_that_read_its_section(section: str, key: str, shared: Workspace) -> None:
    params = load_yaml(shared.path / "params.yaml")
    params[section][key] = other(params[section][key])
    reading = {stage for stage in ALL if section in inspect.signature(getattr(import_module(stage), stage)).parameters}
    assert reading
    assert stale(shared, "params.yaml", dumps_yaml(params).encode()) == reading


@pytest.mark.parametrize("name", CODE)
def test_changed_code_makes_those_stale_that_import_it(name: str, shared: Workspace) -> None:
    content = (shared.path / name).read_bytes() + b"# changed\n"
    assert stale(shared, name, content) == {stage for stage in ALL if name in modules(stage)}


def test_train_imports_nothing_that_only_others_read() -> None:
    others = ("infer", "pictures", "garment", "grid", "evaluate", "predict", "download", "export")
    assert not modules("train") & {f"stages/{name}.py" for name in others}


@pytest.mark.parametrize("name", DATA)
def test_changed_data_makes_those_stale_that_are_given_it(name: str, shared: Workspace) -> None:
    paths = {name, *map(str, Path(name).parents)}
    given = {stage for stage in ALL if paths & set(ALL[stage]["cmd"].split())}
    assert given
    assert stale(shared, name, (shared.path / name).read_bytes() + b"\n") == given


@pytest.mark.parametrize("package", sorted(set().union(*map(pinned, set().union(*map(pins, ALL))))))
def test_another_version_of_a_package_makes_those_stale_that_import_it(package: str, shared: Workspace) -> None:
    project = (shared.path / "pyproject.toml").read_text()
    reading = {stage for stage in ALL if package in packages(script(stage))}
    changed = project.replace(f'"{package}==', f'"{package}==9')
    assert stale(shared, "pyproject.toml", changed.encode()) == (reading or {"export"})  # which onnxscript works for


@pytest.mark.parametrize(("pin", "stage"), [("scipy==0", "predict"), ("torch==0", "train"), ("not-there==0", "train")])
def test_a_package_of_another_version_ends_a_stage_and_nothing_is_recorded(
    pin: str, stage: str, workspace: Workspace
) -> None:
    """As in the environment of before a `git pull`."""
    project = workspace.path / "pyproject.toml"
    package = pin.removesuffix("0")
    asked = re.sub(f'"{package}.*?"', f'"{pin}"', project.read_text())
    project.write_text(asked if pin in asked else asked.replace('"numpy', f'"{pin}", "numpy'))
    lock = (workspace.path / "dvc.lock").read_bytes()
    printed = workspace.run("dvc", "repro", ok=False)
    assert f"{stage}: pyproject.toml asks for {pin}, and " in printed
    assert "Traceback" not in printed
    assert (workspace.path / "dvc.lock").read_bytes() == lock


@pytest.mark.parametrize(
    ("pin", "installed", "good"),
    [
        ("torch==2.14.1", "2.14.1+cpu", True),
        ("torch==2.14.1+cpu", "2.14.1+cpu", True),
        ("torch==2.14.1+cpu", "2.14.1", False),
        ("pillow==13.0", "13.0.0", True),
        ("fsspec[http]==2026.9.0; python_version > '3'", "2026.9.0", True),
        ("torch==2.14.1", "2.14.0", False),
        ("torch==2.14.1; python_version < '3'", "2.14.0", True),
    ],
)
def test_a_version_may_say_how_it_was_built_and_where_it_is_needed(
    pin: str, installed: str, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "version", lambda _: installed)
    with contextlib.nullcontext() if good else pytest.raises(SystemExit, match=f"{installed} is installed"):
        inputs.check_packages({"project.dependencies": [pin, {"include-group": "other"}]})


@pytest.mark.parametrize("package", ["cyclopts", "ruamel-yaml", "tqdm", "pytest"])
def test_another_version_of_what_changes_no_output_makes_nothing_stale(package: str, shared: Workspace) -> None:
    project = (shared.path / "pyproject.toml").read_text()
    assert stale(shared, "pyproject.toml", project.replace(f'"{package}==', f'"{package}==9').encode()) == set()


@pytest.mark.parametrize("name", NEITHER)
def test_what_no_stage_reads_makes_nothing_stale(name: str, shared: Workspace) -> None:
    assert stale(shared, name, (shared.path / name).read_bytes() + b"\n# changed\n") == set()


def test_forced_runs_give_the_same_bytes(workspace: Workspace, finished: Workspace) -> None:
    assert sorted(ran(workspace.run("dvc", "repro", "--force"))) == sorted(STAGES)
    assert results(workspace) == results(finished)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stages/model.py", b"MLP", b"mlp"),
        ("data/FashionMNIST/raw/train-labels-idx1-ubyte", b"", b"0"),
        ("params.yaml", b"momentum: 0.9", b"momentum: 0.5"),
        ("pyproject.toml", b'"numpy==', b'"numpy==9'),
        ("pyproject.toml", b"[project]", b"[project"),
    ],
)
def test_a_file_that_changes_while_a_stage_runs_does_not_count_as_read(
    name: str, old: bytes, new: bytes, fresh: Workspace, finished: Workspace, tmp_path: Path
) -> None:
    workspace = fresh.copy(tmp_path / "clone")
    file = workspace.path / name
    before = []

    def change() -> None:
        before.append(file.read_bytes())
        file.write_bytes(before[0].replace(old, new, 1))
        assert file.read_bytes() != before[0]

    moment = Moment("train", "os.rename", "tmp/checkpoint.tmp", 2, "SIGSTOP", "self")
    status, printed = changed(workspace, moment, change)
    assert status != 0
    assert f"train: {name.split('/raw')[0]} changed while it ran" in printed
    assert "Traceback" not in printed
    file.write_bytes(before[0])
    assert "Resuming after epoch 8\n" in workspace.run("dvc", "repro"), "nothing of it is lost"
    assert results(workspace) == results(finished)


@pytest.mark.parametrize(("event", "path"), [("import", "published"), ("open", "raw/train-images-idx3-ubyte")])
def test_code_that_changes_before_its_digest_is_taken_ends_the_run_and_leaves_no_checkpoint(
    event: str, path: str, fresh: Workspace, tmp_path: Path
) -> None:
    """From which the next run would go on, though other code has written it."""
    workspace = fresh.copy(tmp_path / "clone")
    file = workspace.path / "stages" / "checkpoint.py"
    moment = Moment("train", event, path, 1, "SIGSTOP", "self")
    status, printed = changed(workspace, moment, lambda: file.write_text(file.read_text() + "# changed"))
    assert status != 0
    assert "train: stages/checkpoint.py changed while it ran" in printed
    assert not (workspace.path / ".dvc" / "tmp" / "checkpoint").exists()


def test_a_value_that_changes_before_its_stage_begins_does_not_count_as_read(fresh: Workspace, tmp_path: Path) -> None:
    """Because DVC has made the commands of all stages when it started."""
    workspace = fresh.copy(tmp_path / "clone")
    workspace.environment["RANK"] = "1"  # which a cluster may set, and which is not torchrun's
    moment = Moment("train", "os.rename", "tmp/checkpoint.tmp", 2, "SIGSTOP", "self")
    status, printed = changed(workspace, moment, lambda: workspace.set(labels={"classes": list("ABCDEFGHIJ")}))
    assert status != 0
    assert "evaluate: params.yaml changed while it ran" in printed
    assert ran(workspace.run("dvc", "repro")) == [stage for stage in STAGES if "labels" in sections(stage)]
    assert "J" in (workspace.path / "classes.csv").read_text()


@pytest.mark.parametrize(
    ("values", "good"),
    [
        ({"train": {"seed": 0, "rate": 0.001, "flip": False}, "labels": {"classes": ["No", "5", "a b"]}}, True),
        ({"labels": {"classes": ["No", 5, "a b"]}, "other": {"index": 0, "epochs": 7}}, True),
        ({"train.seed": 1}, True),  # which a command may give another name
        ({}, True),
        ({"train": {"seed": 1, "rate": 0.001, "flip": False}}, False),
        ({"train": {"seed": 0, "rate": 0.001, "flip": True}}, False),
        ({"train": {"seed": 0, "rate": 0.01, "flip": False}}, False),
        ({"labels": {"classes": ["No", "5"]}}, False),
        ({"labels": {"classes": ["5", "No", "a b"]}}, False),
        ({"other": {"index": 0, "epochs": 8}}, False),
    ],
)
def test_the_values_of_a_command_are_those_of_its_sections(
    values: dict[str, Any], good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--seed", "0", "--rate", "0.001", "--no-flip", "--classes", "No", "--classes", "5", "--classes"]
    monkeypatch.setattr("sys.argv", ["stages/train.py", "data", *options, "a b", "--more", "--epochs", "7"])
    assert inputs.command_has(values) is good


def test_a_stage_goes_on_when_what_it_does_not_read_changes(fresh: Workspace, tmp_path: Path) -> None:
    """Such as a section of params.yaml that others read, and a file that is as it was when the stage ends."""
    workspace = fresh.copy(tmp_path / "clone")

    def change() -> None:
        for name in ("stages/model.py", "stages/predict.py", "README.md", "pyproject.toml", "dvc.yaml"):
            with (workspace.path / name).open("a") as file:
                file.write("# changed\n")
        workspace.run("git", "checkout", "--quiet", "stages/model.py")
        workspace.set(predict={"top": 2})

    moment = Moment("train", "os.rename", "tmp/checkpoint.tmp", 2, "SIGSTOP", "self")
    status, printed = changed(workspace, moment, change, "dvc", "repro", "train")
    assert status == 0, printed
    assert ran(workspace.run("dvc", "repro", "train")) == []


def test_a_picture_that_is_added_while_others_are_predicted_is_predicted_by_the_next_run(workspace: Workspace) -> None:
    """From a folder below, too, where DVC names the stage in another way."""
    pictures = workspace.path / "data" / "pictures"
    stage = "../dvc.yaml:predict"
    moment = Moment(stage, "os.rename", "predictions.png.tmp", 1, "SIGSTOP", "self")
    below = Workspace(workspace.path / "stages")
    command = ("dvc", "repro", "--force", "--single-item", stage)
    status, printed = changed(below, moment, lambda: shutil.copy(pictures / "bag.png", pictures / "late.png"), *command)
    assert status != 0
    assert "predict: data/pictures changed while it ran" in printed
    assert ran(workspace.run("dvc", "repro")) == ["predict"]
    assert "late.png" in (workspace.path / "predictions.csv").read_text()


def test_the_state_of_an_input_is_its_content(tmp_path: Path) -> None:
    """But in a folder the size and the time of each file, except of those that DVC ignores, too."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    states = [inputs.state(file)]
    for content in ("one", "two"):
        file.write_text(content)
        states.append(inputs.state(file))
    os.utime(file, (0, 0))
    assert inputs.state(file) == states[-1]
    for name, content, time in [("a", "", 0), ("a", "1", 0), ("a", "1", 1), ("below/a", "", 0), ("b", "1", 1)]:
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content)
        os.utime(path, (time, time))
        states.append(inputs.state(folder))
    (folder / "a").unlink()
    states.append(inputs.state(folder))
    assert all(state not in states[:number] for number, state in enumerate(states))
    for name in (".DS_Store", "below/.a.swp", "Thumbs.db"):
        (folder / name).touch()
    assert inputs.state(folder) == states[-1]


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("stage", ALL)
def test_a_stage_opens_its_deps_and_outs_alone(stage: str, shared: Workspace, tmp_path: Path) -> None:
    workspace = shared.copy(tmp_path / "clone")
    lock = load_yaml(workspace.path / "dvc.lock")["stages"]
    command = lock[stage if stage in STAGES else f"{stage}@onnx"]["cmd"]
    trace = workspace.path.parent / "trace"
    calls = "open,openat,openat2,creat,rename,renameat,renameat2"
    strace = ["strace", "--follow-forks", "--seccomp-bpf", "--decode-fds=path", f"--trace={calls}", f"--output={trace}"]
    workspace.run(*strace, "sh", "-c", command)

    readable = ALL[stage]["deps"]
    writable = [*outputs(stage), *scratch(stage)]
    read, written = opened(trace, workspace.path)
    assert read, "strace saw the script itself"
    assert {name for name in read if not below(name, [*readable, *writable])} == set()
    assert {name for name in written if not below(name, writable + [f"{out}.tmp" for out in writable])} == set()


def below(name: str, paths: list[str]) -> bool:
    return any(name == path or name.startswith(f"{path}/") for path in paths)


def opened(trace: Path, root: Path) -> tuple[set[str], set[str]]:
    """The files of the repository at `root` that were read, and those that were written."""
    read, written = set(), set()
    for line in trace.read_text().splitlines():
        if " = -1 " in line:
            continue
        for folder, name in re.findall(r'(?:<([^>]*)>, )?"([^"]*)"', line):
            path = (root / folder / name).resolve()
            if not path.is_relative_to(root) or path.is_dir():
                continue
            writes = "rename" in line or any(flag in line for flag in ("O_WRONLY", "O_RDWR", "creat("))
            (written if writes else read).add(str(path.relative_to(root)))
    return read, written

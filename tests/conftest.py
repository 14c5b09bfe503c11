"""A tiny learnable dataset, and copies of this repository that run on it."""

import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from servers import S3, SSH, Folder
from train import train

# A shell lets what it starts in the background ignore Ctrl-C, and so would what the tests start and stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
PARAMS: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "params.yaml").read_text())
LAUNCH = PARAMS.pop("launch")  # which goes into a command, and not to a stage
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
RECIPES = {file.name: file.read_text().split() for file in sorted((ROOT / "recipes").iterdir())}
DEFAULTS: dict[str, Any] = PARAMS["train"] | PARAMS["model"] | PARAMS["compute"]
DEFAULTS |= {"epochs": 2, "learning_rate": 0.1, "hidden_size": 32, "device": "cpu", "threads": 1}
NAMES = [f"class {label}" for label in range(10)]
VALUES: dict[str, Any] = {  # of what evaluates or predicts with a model of DEFAULTS
    "classes": NAMES,
    "test_time_flip": False,
    "test_time_shift": 0,
    "network": "mlp",
    "hidden_size": 32,
    "width": 4,
    "blocks": 1,
    "device": "cpu",
    "threads": 1,
}
RESULTS = (
    "dvc.lock",
    "model.pth",
    "curves.csv",
    "training.json",
    "metrics.json",
    "confusion.csv",
    "classes.csv",
    "reliability.csv",
    "mistakes.png",
    "predictions.csv",
    "predictions.png",
)
SIZES = {"train": 600, "t10k": 200}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in torchvision's layout: an image of label k has two bright rows at k, in noise."""
    folder = tmp_path_factory.mktemp("data") / "FashionMNIST"
    (folder / "raw").mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, size in SIZES.items():
        labels = random.integers(10, size=size, dtype=np.uint8)
        images = random.integers(100, size=(size, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 + 2 * label : 6 + 2 * label] = 255
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            header = np.array([2048 + array.ndim, *array.shape], ">i4")
            (folder / "raw" / f"{split}-{kind}-ubyte").write_bytes(header.tobytes() + array.tobytes())
    return folder


@pytest.fixture(scope="session")
def manifest(dataset: Path) -> Path:
    file = dataset.with_suffix(".sha256")
    lines = (
        f"{hashlib.sha256(raw.read_bytes()).hexdigest()}  {raw.name}\n"
        for raw in sorted((dataset / "raw").iterdir(), reverse=True)
    )
    file.write_text("".join(lines))
    return file


@pytest.fixture(scope="session")
def source(dataset: Path) -> Path:
    """A folder that the download stage can fetch the dataset from."""
    folder = dataset.with_name("source")
    folder.mkdir()
    for raw in (dataset / "raw").iterdir():
        (folder / f"{raw.name}.gz").write_bytes(gzip.compress(raw.read_bytes()))
    return folder


def trained(dataset: Path, folder: Path, **values: Any) -> dict[str, bytes]:
    """Train in `folder`; returns every file that is there afterwards."""
    train(
        dataset,
        folder / "model.pth",
        folder / "curves.csv",
        folder / "training.json",
        folder / "checkpoint",
        **(DEFAULTS | values),
    )
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This Python first on PATH, as DVC needs it; no state, settings or bytecode from outside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc-site")))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Test")
            patch.setenv(f"GIT_{role}_EMAIL", "test@localhost")
        yield


@dataclass
class Workspace:
    """A git repository with this project in it, its user's environment, and what its first `dvc repro` printed."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    printed: str = ""

    def run(self, *command: str | Path, ok: bool = True) -> str:
        """Run a command; returns what it printed on both streams. `ok` says whether it should succeed."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode == 0) is ok, done.stdout
        return done.stdout

    def make(self, target: str, ok: bool = True) -> str:
        """Run `make`, with this environment in place of one of its own."""
        environment = self.path / ".venv"
        if not environment.exists():
            environment.symlink_to(sys.prefix)
        return self.run("make", "--assume-old=.venv/installed", target, ok=ok)

    def set(self, **sections: dict[str, Any]) -> None:
        """Change values of params.yaml."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for section, values in sections.items():
            params[section] |= values
        file.write_text(yaml.safe_dump(params, sort_keys=False))

    def copy(self, path: Path) -> "Workspace":
        shutil.copytree(self.path, path)
        return Workspace(path)


def ran(printed: str) -> list[str]:
    """The stages that a `dvc repro` ran, from what it printed."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage '")]


def results(workspace: Workspace) -> dict[str, bytes]:
    """What a finished run leaves: each file's name and content."""
    return {name: (workspace.path / name).read_bytes() for name in RESULTS}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory, manifest: Path, source: Path) -> Workspace:
    """This repository as it stands, committed anew, with the tiny dataset and values that learn it in a moment."""
    workspace = Workspace(tmp_path_factory.mktemp("fresh") / "clone")
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in listed.splitlines():
        if name not in ("dvc.lock", "metrics.json") and (ROOT / name).exists():
            (workspace.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, workspace.path / name)
    shutil.copy(manifest, workspace.path / "data" / manifest.name)
    workspace.set(
        download={"sources": [source.as_uri()]},
        model={"hidden_size": 32},
        train={
            "learning_rate": 0.05,
            "epochs": 8,
            "batch_size": 16,
            "momentum": 0.9,
            "shuffle": True,
            "flip": True,
            "schedule": "one_cycle",
            "validation_size": 100,
        },
        compute={"device": "cpu", "threads": 1},
    )
    workspace.run("git", "init", "--quiet", "--initial-branch", "main")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "The project on a tiny dataset")
    return workspace


@pytest.fixture(scope="session")
def finished(fresh: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same after `dvc repro`, committed."""
    workspace = fresh.copy(tmp_path_factory.mktemp("finished") / "clone")
    workspace.printed = workspace.run("dvc", "repro")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "Results")
    return workspace


@pytest.fixture(scope="module")
def shared(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace for the tests of a module that take their changes back."""
    return finished.copy(tmp_path_factory.mktemp("shared") / "clone")


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    """A finished workspace of the test's own."""
    return finished.copy(tmp_path / "clone")


@dataclass
class Team:
    """People who share a git repository, and one remote; each has a clone, a cache and a DVC state of her own."""

    folder: Path
    place: Folder

    def environment(self, name: str, key: str = "writer") -> dict[str, str]:
        return {"DVC_SITE_CACHE_DIR": str(self.folder / f"{name}-site")} | self.place.environment(key)

    def clone(self, name: str, branch: str = "main") -> Workspace:
        """A fresh clone; its owner has her key in the environment."""
        workspace = Workspace(self.folder / name, self.environment(name))
        origin = self.folder / "origin.git"
        subprocess.run(["git", "clone", "--quiet", "--branch", branch, origin, workspace.path], check=True)
        return workspace


def add_picture(workspace: Workspace, name: str) -> None:
    """The quickest change of an output: predict one more picture, and commit that."""
    pictures = workspace.path / "data" / "pictures"
    shutil.copy(pictures / "bag.png", pictures / f"{name}.png")
    assert ran(workspace.run("dvc", "repro")) == ["predict"]
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", f"Predict {name}")


@pytest.fixture(params=["folder", "s3", "ssh"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """Where the team keeps its artifacts; the servers are the test's own."""
    if request.param == "folder":
        yield Folder()
        return
    server = {"s3": S3, "ssh": SSH}[request.param](tmp_path / request.param)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def team(place: Folder, tmp_path: Path) -> Team:
    return Team(tmp_path, place)


@pytest.fixture
def ann(team: Team, finished: Workspace) -> Workspace:
    """Has run the pipeline, switched to the team's remote, and pushed git; her key is in .dvc/config.local."""
    workspace = finished.copy(team.folder / "ann")
    workspace.environment["DVC_SITE_CACHE_DIR"] = str(team.folder / "ann-site")
    for name, value in team.place.settings(team.folder).items():
        workspace.run("dvc", "remote", "modify", "store", name, value)
    for name, value in team.place.secrets().items():
        workspace.run("dvc", "remote", "modify", "--local", "store", name, value)
    workspace.run("git", "commit", "--quiet", "--all", "--allow-empty", "--message", "Share the artifacts")
    workspace.run("git", "clone", "--quiet", "--bare", ".", "../origin.git")
    workspace.run("git", "remote", "add", "origin", "../origin.git")
    return workspace

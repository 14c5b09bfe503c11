"""Fixtures: a tiny learnable dataset, workspaces that run on it, and a team that shares them."""

from collections.abc import Iterator
import gzip
import hashlib
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from unittest import mock

from dvc.repo import Repo
import numpy as np
from project import ROOT, TUTORIAL, Team, Workspace, idx
import psutil
import pytest
from servers import S3, SSH, Folder

# A shell lets what it starts in the background ignore Ctrl-C, and so would what the tests start and stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SIZES = {"train": 600, "t10k": 200}


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, because tests also wait; each needs up to 3 GiB with the processes that it starts."""
    return max(1, min((os.cpu_count() or 1) + 1, psutil.virtual_memory().available // (3 * 2**30)))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in torchvision's layout: an image of label k has two bright rows at k, in noise, and a black border."""
    folder = tmp_path_factory.mktemp("data") / "FashionMNIST"
    (folder / "raw").mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, size in SIZES.items():
        labels = random.integers(10, size=size, dtype=np.uint8)
        images = random.integers(100, size=(size, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 + 2 * label : 6 + 2 * label] = 255
            image[[0, -1]] = image[:, [0, -1]] = 0
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            (folder / "raw" / f"{split}-{kind}-ubyte").write_bytes(idx(array))
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


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This Python first on PATH, as DVC needs it; no state, settings or bytecode from outside the tests.

    `make` takes this environment in place of setting one up.
    """
    make = tmp_path_factory.mktemp("bin") / "make"
    stamps = "--assume-old=.venv/installed --assume-old=.venv/installed-tests"
    make.write_text(
        f'#!/bin/sh\ntest -e .venv || ln -s {sys.prefix} .venv\nexec {shutil.which("make")} {stamps} "$@"\n'
    )
    make.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{make.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}")
        for name in ("MAKEFLAGS", "MAKELEVEL"):  # of the `make test` that may have started this
            patch.delenv(name, raising=False)
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc-site")))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))  # what a killed process leaves goes with the tests
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Test")
            patch.setenv(f"GIT_{role}_EMAIL", "test@localhost")
        yield


@pytest.fixture(autouse=True)
def environment_of_the_test() -> Iterator[None]:
    """What a stage sets in this process, such as the kernels that it may use, ends with the test."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory, manifest: Path, source: Path) -> Workspace:
    """This repository as it stands, committed anew, with the tiny dataset and values that learn it in a moment.

    Whatever params.yaml has, because people commit their own values, launchers and formats.
    """
    workspace = Workspace(tmp_path_factory.mktemp("fresh") / "clone")
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in listed.splitlines():
        if name not in ("dvc.lock", "metrics.json") and (ROOT / name).exists():
            (workspace.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, workspace.path / name)
    shutil.copy(manifest, workspace.path / "data" / manifest.name)
    workspace.set(**TUTORIAL)
    workspace.set(
        download={"sources": [f"file://{source}"], "timeout": 30},
        model={"hidden_size": 32},
        launch={"train": "python"},
        train={
            "seed": 0,
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
        predict={"index": 0, "top": 3},
        export={"formats": []},
    )
    workspace.run("git", "init", "--quiet", "--initial-branch", "main")
    workspace.commit("The project on a tiny dataset")
    return workspace


@pytest.fixture(scope="session")
def finished(fresh: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same after `dvc repro`, committed."""
    workspace = fresh.copy(tmp_path_factory.mktemp("finished") / "clone")
    workspace.printed = workspace.run("dvc", "repro")
    workspace.commit("Results")
    return workspace


@pytest.fixture(scope="module")
def shared(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace for the tests of a module that take their changes back."""
    return finished.copy(tmp_path_factory.mktemp("shared") / "clone")


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    """A finished workspace of the test's own."""
    return finished.copy(tmp_path / "clone")


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
    config = Repo(str(workspace.path)).config
    for level, values in {"repo": team.place.settings(team.folder), "local": team.place.secrets()}.items():
        with config.edit(level) as edited:  # as `dvc remote modify` does
            edited["remote"].setdefault("store", {}).update(values)
    workspace.run("git", "commit", "--quiet", "--all", "--allow-empty", "--message", "Share the artifacts")
    workspace.add_origin()
    return workspace

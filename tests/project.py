"""This project as tests see it: what it declares, what its code imports, and workspaces in which it runs."""

import ast
from collections.abc import Callable
import contextlib
from dataclasses import dataclass, field
from functools import cache
import hashlib
from importlib.metadata import packages_distributions
import os
from pathlib import Path
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from typing import Any

from dvc.parsing import DataResolver
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml, loads_yaml, modify_yaml
import numpy as np
import pytest
from servers import Folder

ROOT = Path(__file__).parent.parent
PARAMS: dict[str, dict[str, Any]] = load_yaml(ROOT / "params.yaml")
del PARAMS["launch"], PARAMS["export"]  # of which one goes into a command, and one adds a stage
ONNX = "model.onnx"
DECLARED = loads_yaml((ROOT / "dvc.yaml").read_text().replace("${item}", "onnx"))["stages"]
ALL: dict[str, dict[str, Any]] = {name: body.get("do", body) for name, body in DECLARED.items()}
STAGES = {name: body for name, body in ALL.items() if body is DECLARED[name]}  # those of every run
RECIPES = {file.name: file.read_text().split() for file in sorted((ROOT / "recipes").iterdir())}
TUTORIAL: dict[str, dict[str, Any]] = {}  # the values of its recipe, with which the tests run, whatever params.yaml has
for option in RECIPES["tutorial"]:
    section, key, value = re.split("[.=]", option.removeprefix("--set-param="), maxsplit=2)
    TUTORIAL.setdefault(section, {})[key] = PARAMS[section][key] = loads_yaml(value)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CHECK = (sys.executable, "tools/check.py")


def script(stage: str) -> Path:
    return ROOT / "stages" / f"{stage}.py"


@cache
def imports(file: Path) -> frozenset[str]:
    """The top-level modules that the file imports, and those that the project's among them import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in (name.split(".")[0] for name in names):
            found.add(name)
            for own in (file.with_name(f"{name}.py"), script(name), ROOT / "tools" / f"{name}.py"):
                if own.exists():
                    found |= imports(own)
                    break
    return frozenset(found)


def modules(stage: str) -> set[str]:
    """The files in stages/ that the stage's script consists of."""
    names = {stage} | imports(script(stage))
    return {f"stages/{name}.py" for name in names if script(name).exists()}


def sections(stage: str) -> set[str]:
    """The sections of params.yaml that the stage reads."""
    return {name for name in ALL[stage].get("params", []) if isinstance(name, str)}


distributions = cache(packages_distributions)  # of each module that is installed


def packages(file: Path) -> set[str]:
    """The packages that the script's modules import."""
    found = imports(file) & distributions().keys() - sys.stdlib_module_names
    return {re.sub("[_.]", "-", min(distributions()[name])).lower() for name in found}


def pins(stage: str) -> set[str]:
    """The lists of pyproject.toml that the stage depends on, such as `project.dependencies`."""
    files = [each for each in ALL[stage].get("params", []) if isinstance(each, dict)]
    return {name for each in files for name in each["pyproject.toml"]}


def pinned(name: str) -> set[str]:
    """The packages in a list of pyproject.toml, each of which has its version there."""
    table, key = name.split(".")
    pairs = [dependency.split("==") for dependency in PYPROJECT[table][key]]
    assert all(len(pair) == 2 for pair in pairs), f"{name} in pyproject.toml: a package without ==VERSION"
    return {package for package, _ in pairs}


open_repo = cache(Repo)  # it does not read params.yaml


def arguments(stage: str, folder: Path) -> list[str]:
    """What DVC makes of the stage's command with the values in the folder's params.yaml, from the script on."""
    resolver = DataResolver(open_repo(str(folder)), str(folder), {"stages": STAGES})
    return shlex.split(resolver.resolve_one(stage)[stage]["cmd"])[2:]


def paths(stage: str) -> list[str]:
    """The paths in the stage's command, in order."""
    words = ALL[stage]["cmd"].split()[3:]  # after `exec python stages/NAME.py`
    return [word for word in words if not word.startswith("${")]


def inputs(stage: str) -> list[str]:
    """The data that the stage reads."""
    return [dep for dep in ALL[stage].get("deps", []) if not dep.endswith(".py")]


def outputs(stage: str) -> list[str]:
    """What the stage writes for others."""
    listed = ALL[stage].get("metrics", []) + ALL[stage].get("outs", [])
    return [next(iter(out)) if isinstance(out, dict) else out for out in listed]


def scratch(stage: str) -> list[str]:
    """What a killed run of the stage leaves for the next one: git ignores it."""
    return [path for path in paths(stage) if path.startswith(".dvc/tmp/") or path.endswith(".tmp")]


def downstream(first: str) -> set[str]:
    """The stage and those that depend on it."""
    found = {first}
    for stage in STAGES:  # in the order of dvc.yaml, which has a stage after those that it depends on
        if {out for each in found for out in outputs(each)} & set(inputs(stage)):
            found.add(stage)
    return found


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code in the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def commands(page: str) -> str:
    """What the page tells to type, as a script."""
    return "\n".join(re.findall(r"^\$ (.*)", "".join(blocks(page, "console")), re.MULTILINE))


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """The array in the IDX format, whose kind 8 is of bytes."""
    return bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def run_in_process(script: Callable[[], object], *argv: str) -> str:
    """Call what a script does, with that command line, in this process; returns what it ends with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(argv))
        patch.setattr("command.gc.freeze", lambda: None)  # of this process, which goes on
        try:
            script()
        except SystemExit as end:
            return str(end.code or "")
    return ""


@dataclass
class Workspace:
    """A git repository with this project in it, its user's environment, and what its first `dvc repro` printed.

    `prefix` is what starts its commands as another user.
    """

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    printed: str = ""
    prefix: tuple[str, ...] = ()

    def run(self, *command: str | Path, ok: bool = True) -> str:
        """Run a command; returns what it printed on both streams. `ok` says whether it should succeed."""
        done = subprocess.run(
            [*self.prefix, *command],
            cwd=self.path,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode == 0) is ok, done.stdout
        return done.stdout

    def as_user(self, user: int, group: int = 65534) -> "Workspace":
        """The same as another user sees it, who may read all, but write only what is hers."""
        if os.getuid() or not shutil.which("setpriv"):
            pytest.skip("only root can run a command as another user")
        capability = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        command = ("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *capability)
        home = self.path.with_name(f"{user}-home")
        home.mkdir(exist_ok=True)
        os.chown(home, user, group)
        environment = {"HOME": str(home), "USER": str(user), "TMPDIR": str(home), "DVC_SITE_CACHE_DIR": f"{home}/site"}
        return Workspace(self.path, self.environment | environment, prefix=command)

    def set(self, **sections: dict[str, Any]) -> None:
        """Change values of params.yaml."""
        with modify_yaml(self.path / "params.yaml") as params:
            for section, values in sections.items():
                params[section].update(values)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def add_origin(self) -> None:
        """Give it a repository beside it to push to."""
        self.run("git", "clone", "--quiet", "--bare", ".", "../origin.git")
        self.run("git", "remote", "add", "origin", "../origin.git")
        self.run("git", "push", "--quiet", "--set-upstream", "origin", "main")

    def copy(self, path: Path) -> "Workspace":
        shutil.copytree(self.path, path, symlinks=True)
        return Workspace(path)


def ran(printed: str) -> list[str]:
    """The stages that a `dvc repro` ran, from what it printed."""
    return [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage '")]


def results(workspace: Workspace) -> dict[str, bytes]:
    """What a finished run leaves: each file's name and content."""
    written = ["dvc.lock", *(out for stage in STAGES for out in outputs(stage))]
    return {name: (workspace.path / name).read_bytes() for name in written if not (workspace.path / name).is_dir()}


def cached(workspace: Workspace, name: str) -> Path:
    """The object in the cache that holds the file."""
    oid = hashlib.md5((workspace.path / name).read_bytes()).hexdigest()
    return workspace.path / ".dvc" / "cache" / "files" / "md5" / oid[:2] / oid[2:]


def stale(workspace: Workspace, name: str, content: bytes) -> set[str]:
    """The stages that DVC finds stale while the file has the content."""
    file = workspace.path / name
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        with contextlib.chdir(workspace.path):
            return {name.removesuffix("@onnx") for name in Repo().status()}
    finally:
        file.write_bytes(before)


def add_picture(workspace: Workspace, name: str) -> None:
    """The quickest change of an output: predict one more picture, and commit that."""
    pictures = workspace.path / "data" / "pictures"
    shutil.copy(pictures / "bag.png", pictures / f"{name}.png")
    assert ran(workspace.run("dvc", "repro")) == ["predict"]
    workspace.commit(f"Predict {name}")


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

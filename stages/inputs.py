"""What a stage reads that DVC does not notice: files that change while it runs, and packages of another version.

DVC looks at dependencies when the stage has ended, and would take new content for what it has read:
https://github.com/treeverse/dvc/issues/11058. Of packages it knows only what pyproject.toml asks for.
"""

from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
import os
from pathlib import Path
import sys
import tomllib

import yaml

PROJECT = Path(__file__).parent.parent


def declared(stage: str) -> tuple[list[str], list[str]]:
    """The `deps` of the stage in dvc.yaml, and the lists of pyproject.toml in its `params`.

    Its other `params` are values in the command, where DVC does notice a change.
    """
    stages = yaml.load((PROJECT / "dvc.yaml").read_bytes(), yaml.CSafeLoader)["stages"]
    body = stages.get(stage, {})
    body = body.get("do", body)
    files = [each for each in body.get("params", []) if isinstance(each, dict)]
    return body.get("deps", []), [name for each in files for name in each.get("pyproject.toml", [])]


STAGE = os.environ.get("DVC_STAGE", "").split(":")[-1].split("@")[0]  # which may be ../dvc.yaml:export@onnx
DEPS, LISTS = declared(STAGE) if STAGE else ([], [])


def state(path: Path) -> object:
    """The content of a file; of a folder each file with its size and time; of what is not there, nothing."""
    try:
        if path.is_dir():
            return {(file, file.stat().st_size, file.stat().st_mtime_ns) for file in path.rglob("*") if file.is_file()}
        return sha256(path.read_bytes()).digest()
    except FileNotFoundError:
        return None


def pins() -> list[str]:
    """The packages that the stage depends on, such as `numpy==2.4.6`."""
    found = []
    for name in LISTS:
        table, key = name.split(".")
        found += tomllib.loads((PROJECT / "pyproject.toml").read_text())[table][key]
    return found


def states() -> dict[str, object]:
    """The state of each of the stage's inputs."""
    return {name: state(PROJECT / name) for name in DEPS} | {"pyproject.toml": pins()}


BEFORE = states()


def check_packages() -> None:
    """End with a line if a package of another version is installed than pyproject.toml asks for."""
    for pin in pins():
        name, _, wanted = pin.partition("==")
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "none"
        if installed.partition("+")[0] != wanted:  # after the + stands how it was built
            sys.exit(
                f"{STAGE}: pyproject.toml asks for {pin}, and {installed} is installed: "
                "`make repro` or `pip install -r requirements.txt` installs what it asks for"
            )


def check_inputs() -> None:
    """End with a line if something that the stage reads is not what it was before the stage imported its modules."""
    if changed := [name for name, now in states().items() if now != BEFORE[name]]:
        sys.exit(
            f"{STAGE}: {', '.join(changed)} changed during the run, and DVC would take that for what it has read. "
            "Undo the change, and the same command keeps what has finished; or run again with it."
        )

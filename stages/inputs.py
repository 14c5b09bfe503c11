"""Ends a stage that DVC would record wrongly: an input changed while it ran, or a package has another version.

DVC makes the command of each stage when it starts, and looks at a stage's inputs when that has ended:
https://github.com/treeverse/dvc/issues/11058. Of packages it knows what pyproject.toml asks for, not what is installed.
"""

from functools import cache, reduce
import hashlib
from importlib.metadata import PackageNotFoundError, version
from operator import getitem
import os
from pathlib import Path
import sys
import tomllib
from typing import Any

PROJECT = Path(__file__).parent.parent
STAGE = os.environ.get("DVC_STAGE", "").split(":")[-1].split("@")[0]  # of ../dvc.yaml:export@onnx, export
UNREADABLE = (AttributeError, LookupError, OSError, TypeError, ValueError)  # a file is half edited, perhaps

before: dict[str, Any] = {}


def begin() -> None:
    """Take down the state of the stage's inputs, if DVC runs one; its other modules are imported after this."""
    if not STAGE:
        return
    try:
        now = states()
        check_packages(now.get("pyproject.toml") or {})
        if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0":
            before.update(now)  # torchrun's other processes read the same
    except UNREADABLE as error:
        sys.exit(f"{STAGE}: {error}")


def check_inputs() -> None:
    """End with a line if something that the stage reads is not as it was when the stage began, or its command made."""
    if not before:
        return
    now = states()
    changed = [name for name in before if now[name] != before[name]]
    if not changed and not command_has(now.get("params.yaml") or {}):
        changed = ["params.yaml"]
    if changed:
        sys.exit(
            f"{STAGE}: {', '.join(changed)} changed while it ran, and DVC would record the new content as read: "
            "run again. With exactly the old content back, a training goes on from its last epoch."
        )


def command_has(values: dict[str, Any]) -> bool:
    """Whether each option of this process's command line has the value that its section has now.

    Takes each value's option out of the command line; an option of the sections that is left has another value.
    """
    pairs = [pair for section in values.values() if isinstance(section, dict) for pair in section.items()]
    rest = "\0".join([*sys.argv, ""])
    for key, value in pairs:
        rest = rest.replace("\0".join(["", *option(key, value), ""]), "\0", 1)
    return not any(f"\0--{name}\0" in rest for key, _ in pairs for name in (key, f"no-{key}"))


def option(key: str, value: object) -> list[str]:
    """What DVC makes of a value in a section, with the settings of `parsing` in .dvc/config."""
    if isinstance(value, bool):
        return [f"--{key}" if value else f"--no-{key}"]
    return [word for each in (value if isinstance(value, list) else [value]) for word in (f"--{key}", str(each))]


def check_packages(groups: dict[str, list[Any]]) -> None:
    """End with a line if a package in the lists of pyproject.toml is not installed in the version asked for there."""
    from packaging.requirements import Requirement  # here, as is ruamel, because the tools start without them

    for wanted in (Requirement(each) for group in groups.values() for each in group if isinstance(each, str)):
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            installed = ""
        if not installed or not wanted.specifier.contains(installed, prereleases=True):
            sys.exit(
                f"{STAGE}: pyproject.toml asks for {wanted}, and {installed or 'none'} is installed: "
                "install the packages of this commit, as `make repro` does (docs/troubleshooting.md)"
            )


def states() -> dict[str, Any]:
    """The state of each of the stage's `deps`, and of each file in its `params` the values that it names there."""
    deps, params = declared()
    return {name: state(PROJECT / name) for name in deps} | {file: read_values(file) for file in params}


@cache
def declared() -> tuple[list[str], dict[str, list[str]]]:
    """The `deps` and the `params` of the stage in dvc.yaml: of each file the keys that it reads."""
    body = load("dvc.yaml")["stages"].get(STAGE, {})
    body = body.get("do", body)
    params: dict[str, list[str]] = {}
    for each in body.get("params", []):
        for file, keys in each.items() if isinstance(each, dict) else [("params.yaml", [each])]:
            params.setdefault(file, []).extend(keys)
    return body.get("deps", []), params


def read_values(file: str) -> dict[str, Any] | None:
    """The values at the keys that the stage reads in the file; nothing if they cannot be read."""
    _, params = declared()
    try:
        content = load(file)
        return {key: reduce(getitem, key.split("."), content) for key in params[file]}
    except UNREADABLE:
        return None


def load(file: str) -> Any:
    """What a file of YAML or TOML holds; a ValueError if it is neither."""
    from ruamel.yaml import YAML, YAMLError  # as DVC does, to which No is a string and 1e-3 a number

    content = (PROJECT / file).read_bytes()
    if file.endswith(".toml"):
        return tomllib.loads(content.decode())
    try:
        return YAML(typ="safe").load(content)
    except YAMLError as error:
        raise ValueError(f"{file}: {error}") from error


def state(path: Path) -> object:
    """The digest of a file; of a folder the size and the time of each file; of what is not there, nothing."""
    try:
        if path.is_dir():
            files = [each for each in path.rglob("*") if each.is_file()]
            kept = [each for each in files if not any(map(is_clutter, each.relative_to(path).parts))]
            return {(each, each.stat().st_size, each.stat().st_mtime_ns) for each in kept}
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return None


def is_clutter(name: str) -> bool:
    """Whether a file of that name is one that file managers leave behind, which .dvcignore names, too."""
    return name.startswith(".") or name in ("Thumbs.db", "desktop.ini")

"""Notices that what a stage reads changes while it runs: DVC looks at dependencies only when the stage has ended.

It would record the new content as what the outputs came from: https://github.com/treeverse/dvc/issues/11058.
"""

from hashlib import sha256
import os
from pathlib import Path
import sys

import yaml

PROJECT = Path(__file__).parent.parent


def declared(stage: str) -> list[str]:
    """The `deps` of the stage in dvc.yaml, and the files of its `params`.

    But for params.yaml, whose values are in the command, where DVC does notice that they have changed.
    """
    stages = yaml.load((PROJECT / "dvc.yaml").read_bytes(), yaml.CSafeLoader)["stages"]
    body = stages.get(stage, {})
    body = body.get("do", body)
    files = [name for each in body.get("params", []) if isinstance(each, dict) for name in each]
    return [*body.get("deps", []), *files]


def state(path: Path) -> object:
    """The content of a file; of a folder each file with its size and time; of what is not there, nothing."""
    try:
        if path.is_dir():
            return {(file, file.stat().st_size, file.stat().st_mtime_ns) for file in path.rglob("*") if file.is_file()}
        return sha256(path.read_bytes()).digest()
    except FileNotFoundError:
        return None


STAGE = os.environ.get("DVC_STAGE", "").split(":")[-1].split("@")[0]  # which may be ../dvc.yaml:export@onnx
BEFORE = {name: state(PROJECT / name) for name in declared(STAGE)} if STAGE else {}


def check_inputs() -> None:
    """End with a line if something that the stage reads is not what it was before the stage imported its modules."""
    if changed := [name for name, before in BEFORE.items() if state(PROJECT / name) != before]:
        sys.exit(
            f"{STAGE}: {', '.join(changed)} changed during the run, and DVC would take that for what it has read. "
            "Undo the change, and the same command keeps what has finished; or run again with it."
        )

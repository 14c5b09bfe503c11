"""Finds what is corrupt in DVC's cache and in the workspace: DVC itself trusts what it once hashed."""

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cyclopts
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils import dict_sha256
from dvc.utils.serialize import ParseError, load_yaml
from voluptuous import Invalid


def check(*, remove: bool = False, lock: bool = False) -> None:
    """Hash every object of the cache against its name and the workspace against dvc.lock; end with 1 if one is bad.

    Parameters
    ----------
    remove
        Remove the corrupt objects, so that the commands printed beside them bring good ones.
    lock
        Look at nothing but whether dvc.lock is whole.
    """
    if Path("dvc.lock").exists() and not is_whole(Path("dvc.lock")):
        sys.exit("corrupt: dvc.lock: torn, when DVC was killed or the disk full; `git checkout dvc.lock` heals it")
    if lock:
        return
    with tempfile.TemporaryDirectory() as empty:
        os.environ["DVC_SITE_CACHE_DIR"] = empty  # else DVC takes the hashes it remembers there
        repo = Repo()
        corrupt = [*corrupt_objects(repo), *corrupt_runs(repo)]
        changed = repo.status()
    for path, healing in corrupt:
        print(f"{'removed' if remove else 'corrupt'}: {os.path.relpath(path)}: {healing}")
        if remove:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()  # an empty folder in the run cache makes `dvc repro` fail
    for stage, changes in changed.items():
        print(
            f"not as in dvc.lock: {stage}: {json.dumps(changes)}; `DVC_SITE_CACHE_DIR=$(mktemp -d) dvc repro` mends it"
        )
    if corrupt and not remove:
        print("First remove what is corrupt: make check REMOVE=--remove")
    if corrupt or changed:
        sys.exit(1)
    print("The cache and the workspace are sound.")


def is_whole(lock: Path) -> bool:
    """Whether DVC can read its lock, to the end of the last line."""
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(lock))
    except (ParseError, Invalid):
        return False
    return lock.read_bytes().endswith(b"\n")


def corrupt_objects(repo: Repo) -> Iterator[tuple[Path, str]]:
    """The objects whose name is not their MD5, and what heals each."""
    paths = (path for path in Path(repo.cache.local.path).glob("*/*") if re.fullmatch(r"\w{30}(\.dir)?", path.name))
    objects = {path.parent.name + path.name: path for path in paths}
    sound = {}
    for name, path in objects.items():
        with path.open("rb") as file:
            sound[name] = hashlib.file_digest(file, "md5").hexdigest() == name.removesuffix(".dir")
    users = {}
    for out in repo.index.outs:
        name = out.hash_info.value or ""
        listed = json.loads(objects[name].read_text()) if name.endswith(".dir") and sound.get(name) else []
        users |= {oid: out for oid in (name, *(member["md5"] for member in listed))}
    remote = repo.config["core"].get("remote", "a remote")
    for name, path in objects.items():
        if not sound[name] and name in users:
            stage = users[name].stage.addressing
            yield (
                path,
                f"{users[name]} of {stage}; `dvc fetch {stage}` heals it where {remote} has it, else `dvc repro`",
            )
        elif not sound[name]:
            yield path, "not of this commit; the commit that has it heals it, by `dvc fetch` or `dvc repro`"


def corrupt_runs(repo: Repo) -> Iterator[tuple[Path, str]]:
    """The run cache's entries whose name is not the SHA-256 of their values, and what heals each."""
    for path in Path(repo.cache.legacy.path, "runs").glob("*/*/*"):
        try:
            sound = dict_sha256(load_yaml(path), exclude=["size", "nfiles"]) == path.name
        except ParseError:
            sound = False
        if not sound:
            yield path, "a finished run, remembered; when it is wanted again, `dvc repro` runs it again"


if __name__ == "__main__":
    cyclopts.run(check)

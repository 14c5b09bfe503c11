"""Finds what is corrupt in DVC's cache, its remote and the workspace, because DVC itself trusts what it once hashed."""

from collections.abc import Iterator
import json
import os
from pathlib import Path
import sys
import tempfile

import cyclopts
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils import dict_sha256
from dvc.utils.serialize import ParseError, load_yaml
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.hash import hash_file
from voluptuous import Invalid

TORN = 3  # the exit status that says so to `make repro`


def check(*, remote: bool = False, remove: bool = False, lock: bool = False) -> None:
    """Hash every object of the cache against its name and the workspace against dvc.lock; end with 1 if one stays bad.

    Parameters
    ----------
    remote
        Hash every object of the default remote instead: this reads all that is stored there.
    remove
        Remove the corrupt objects, so that the commands printed beside them bring good ones.
    lock
        Check only that dvc.lock is whole.
    """
    os.chdir(Path(__file__).parent.parent)
    if Path("dvc.lock").exists() and not is_whole(Path("dvc.lock")):
        print("corrupt: dvc.lock: torn, when DVC was killed or the disk full; `git checkout dvc.lock` repairs it")
        sys.exit(TORN)
    if lock:
        return
    with tempfile.TemporaryDirectory() as empty:
        os.environ["DVC_SITE_CACHE_DIR"] = empty  # else DVC takes the hashes it remembers there
        repo = Repo()
        objects = repo.cloud.get_remote_odb() if remote else repo.cache.local
        if remote and not objects.fs.exists(objects.path):
            sys.exit(f"check: nothing is stored in {root(objects)}")
        corrupt = [*corrupt_objects(repo, objects, remote), *corrupt_runs(objects)]
        changed = {} if remote else repo.status()
    for path, repair in corrupt:
        print(f"{'removed' if remove else 'corrupt'}: {path if remote else os.path.relpath(path)}: {repair}")
        if remove:
            objects.fs.remove(path)
            folder = Path(path).parent
            if not remote and not any(folder.iterdir()):
                folder.rmdir()  # an empty folder in the run cache makes `dvc repro` fail
    for stage, changes in changed.items():
        print(f"not as in dvc.lock: {stage}: {json.dumps(changes)}; ", end="")
        print("`DVC_SITE_CACHE_DIR=$(mktemp -d) dvc repro` repairs it")
    if corrupt and not remove:
        options = "'--remote --remove'" if remote else "--remove"
        print(f"First remove what is corrupt: make check OPTIONS={options}")
    if changed or (corrupt and not remove):
        sys.exit(1)
    if not corrupt:
        print("The remote is sound." if remote else "The cache and the workspace are sound.")


def is_whole(lock: Path) -> bool:
    """Whether DVC can read its lock, to the end of the last line."""
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(lock))
    except (ParseError, Invalid):
        return False
    return lock.read_bytes().endswith(b"\n")


def root(objects: HashFileDB) -> str:
    """The folder that has the objects, in files/md5, and the run cache, in runs."""
    return objects.fs.parent(objects.fs.parent(objects.path))


def corrupt_objects(repo: Repo, objects: HashFileDB, remote: bool) -> Iterator[tuple[str, str]]:
    """The objects whose name is not their MD5, and what repairs each."""
    sound, corrupt, members = set(), [], {}
    for name in sorted(objects.all()):
        path = objects.oid_to_path(name)
        if hash_file(path, objects.fs, "md5")[1].value != name.removesuffix(".dir"):
            corrupt.append(name)
            continue
        sound.add(name)
        if name.endswith(".dir"):
            with objects.fs.open(path) as listing:
                members[name] = [member["md5"] for member in json.load(listing)]
    users = {}
    for out in repo.index.outs:
        name = out.hash_info.value or ""
        users |= {oid: out for oid in (name, *members.get(name, []))}
    store = repo.config["core"].get("remote", "a remote")
    for name in corrupt:
        out = users.get(name)
        stage = out.stage.addressing if out else ""
        user = f"{out} of {stage}" if out else "not of this commit"
        if remote:
            repair = "`dvc push` repairs it, from a commit and a clone that have it"
        elif out:
            repair = f"`dvc fetch {stage}` repairs it where {store} has it, else `dvc repro`"
        else:
            repair = "the commit that has it repairs it, by `dvc fetch` or `dvc repro`"
        yield objects.oid_to_path(name), f"{user}; {repair}"
    if remote:
        for name in members:
            if not sound.issuperset(members[name]):
                yield (
                    objects.oid_to_path(name),
                    "lists a file that is corrupt or missing; with this list, DVC pushes it again",
                )


def corrupt_runs(objects: HashFileDB) -> Iterator[tuple[str, str]]:
    """The entries of the run cache whose name is not the SHA-256 of their values, and what repairs each."""
    fs = objects.fs
    for path in fs.find(fs.join(root(objects), "runs")):
        try:
            sound = dict_sha256(load_yaml(path, fs=fs), exclude=["size", "nfiles"]) == fs.name(path)
        except ParseError:
            sound = False
        if not sound:
            yield path, "the memory of a finished run; `dvc repro` runs it again when it is needed"


if __name__ == "__main__":
    try:
        cyclopts.run(check)
    except Exception as error:  # a remote's package raises its own
        sys.exit(f"check: {error}")

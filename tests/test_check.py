"""`make check` names each flipped byte, and the command that it names repairs it."""

from pathlib import Path

from check import corrupt_objects
from dvc.repo import Repo
from faults import flip
from project import CHECK, Workspace, cached, ran, results

IMAGES = "data/FashionMNIST/raw/train-images-idx3-ubyte"


def test_corrupt_objects_are_named_and_repaired(workspace: Workspace, finished: Workspace) -> None:
    objects = {"download": cached(workspace, IMAGES), "train": cached(workspace, "model.pth")}
    workspace.run("dvc", "push")
    for corrupt in objects.values():
        flip(corrupt)
    assert "up to date" in workspace.run("dvc", "status"), "DVC itself does not notice"
    printed = workspace.run(*CHECK, ok=False)
    for (stage, corrupt), name in zip(objects.items(), ("data/FashionMNIST", "model.pth"), strict=True):
        path = corrupt.relative_to(workspace.path)
        assert f"corrupt: {path}: {name} of {stage}; `dvc fetch {stage}` repairs it where" in printed
    assert workspace.run(*CHECK, "--remove").count("removed: ") == 2
    assert not any(corrupt.exists() for corrupt in objects.values())
    workspace.run("dvc", "fetch", "download")
    assert ran(workspace.run("dvc", "repro")) == ["train"]
    assert workspace.run(*CHECK) == "The cache and the workspace are sound.\n"
    assert results(workspace) == results(finished)


def test_each_object_that_is_corrupt_is_found(workspace: Workspace) -> None:
    """The files and the lists of folders."""
    repo = Repo(str(workspace.path))
    objects = repo.cache.local
    listed = [Path(objects.oid_to_path(name)) for name in objects.all()]
    assert {file.suffix for file in listed} == {"", ".dir"}
    for file in listed:
        flip(file)
        [(path, _)] = corrupt_objects(repo, objects, remote=False)
        assert path == str(file)
        flip(file)
    assert not [*corrupt_objects(repo, objects, remote=False)]


def test_a_folder_that_another_user_owns_is_not_a_traceback(workspace: Workspace) -> None:
    other = workspace.as_user(1001)
    for path in (workspace.path / ".dvc", *(workspace.path / ".dvc").rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    printed = other.run(*CHECK, ok=False)
    assert "check: [Errno 13] Permission denied: " in printed
    assert "Traceback" not in printed


def test_a_corrupt_run_cache_entry_is_named_and_repaired(workspace: Workspace, finished: Workspace) -> None:
    runs = workspace.path / ".dvc" / "cache" / "runs"
    [entry] = [file for file in runs.glob("*/*/*") if "stages/train.py" in file.read_text()]
    entry.chmod(0o644)
    entry.write_text(entry.read_text().replace("epochs: 8", "epochs: 9"))
    assert f"corrupt: {entry.relative_to(workspace.path)}: " in workspace.run(*CHECK, ok=False)
    assert "removed: " in workspace.run(*CHECK, "--remove")
    (workspace.path / "dvc.lock").unlink()
    assert ran(workspace.run("dvc", "repro")) == ["train"], "the other runs come from the run cache"
    assert entry.exists()
    assert workspace.run(*CHECK) == "The cache and the workspace are sound.\n"
    assert results(workspace) == results(finished)


def test_a_torn_lock_is_named(workspace: Workspace) -> None:
    lock = workspace.path / "dvc.lock"
    lock.write_bytes(lock.read_bytes()[:-100])
    elsewhere = Workspace(workspace.path.parent)
    for printed in (workspace.run(*CHECK, ok=False), elsewhere.run("python", "clone/tools/check.py", ok=False)):
        assert printed.startswith("corrupt: dvc.lock: torn")
    workspace.run("git", "checkout", "--quiet", "dvc.lock")
    assert workspace.run(*CHECK) == "The cache and the workspace are sound.\n"


def test_a_changed_output_is_named_and_repaired(workspace: Workspace, finished: Workspace) -> None:
    workspace.run("dvc", "status")
    flip(workspace.path / "model.pth")
    assert "up to date" in workspace.run("dvc", "status"), "DVC itself does not notice"
    assert 'not as in dvc.lock: train: [{"changed outs": {"model.pth": "modified"}}]' in workspace.run(*CHECK, ok=False)
    workspace.run("sh", "-c", "DVC_SITE_CACHE_DIR=$(mktemp -d) dvc repro")
    assert results(workspace) == results(finished)


def test_a_remote_that_is_not_there_is_not_called_sound(workspace: Workspace) -> None:
    nowhere = workspace.path.parent / "dvc-store"
    assert workspace.run(*CHECK, "--remote", ok=False) == f"check: nothing is stored in {nowhere}\n"


def test_a_remote_whose_packages_are_missing_is_not_a_traceback(workspace: Workspace) -> None:
    workspace.run("dvc", "remote", "modify", "store", "url", "s3://bucket/store")
    python, script = CHECK
    hide = f"import runpy, sys; sys.modules['s3fs'] = None; runpy.run_path('{script}', run_name='__main__')"
    printed = workspace.run(python, "-c", hide, "--remote", ok=False)
    assert printed.startswith("check: ")
    assert "s3" in printed
    assert "Traceback" not in printed

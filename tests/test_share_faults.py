"""A fault of a remote ends in an error and loses nothing: the next try, with the fault gone, has everything."""

from concurrent.futures import ThreadPoolExecutor
import signal
import sys
import time

from faults import Moment, killed, start
from project import CHECK, Team, Workspace, add_picture, cached, ran, results
import psutil
import pytest
from servers import Folder, Server

IMAGES = "data/FashionMNIST/raw/train-images-idx3-ubyte"
SERVERS = pytest.mark.parametrize("place", ["s3", "ssh"], indirect=True)
FLIP = """
import sys
from dvc.repo import Repo
objects = Repo().cloud.get_remote_odb()
path = objects.oid_to_path(sys.argv[1])
content = bytearray(objects.fs.cat_file(path))
content[len(content) // 2] ^= 1
objects.fs.remove(path)
objects.fs.pipe_file(path, bytes(content))
"""


def tail(workspace: Workspace, name: str) -> str:
    """The end of the path of the file's object, in any cache or remote."""
    return "/".join(cached(workspace, name).parts[-2:])


def fail(command: str, workspace: Workspace, server: Server, path: str) -> None:
    """Run the command twice: when it opens the path, the server dies; the next time it stalls, and SIGTERM ends it."""
    killed(workspace, Moment("", "open", path, 1, "SIGKILL", str(server.process.pid)), "dvc", command)
    server.restart()
    with start(workspace, Moment("", "open", path, 1, "SIGSTOP", str(server.process.pid)), "dvc", command) as stalled:
        while server.process.status() != psutil.STATUS_STOPPED:
            assert stalled.poll() is None, "the command reached the path"
            time.sleep(0.1)
        stalled.terminate()  # as `timeout` does
        try:
            assert stalled.wait(timeout=10) != 0
        finally:
            stalled.kill()
    server.send(signal.SIGCONT)


def test_a_push_that_failed_in_each_way_is_completed_by_the_next(place: Folder, team: Team, ann: Workspace) -> None:
    ann.run("dvc", "remote", "modify", "store", "url", place.nowhere)
    assert "Traceback" not in ann.run("dvc", "push", ok=False)
    ann.run("git", "checkout", "--quiet", ".dvc/config")
    model = tail(ann, "model.pth")
    killed(ann, Moment("", "open", model, 1, "SIGKILL", "self"), "dvc", "push")
    if isinstance(place, Server):
        fail("push", ann, place, model)
    ann.run("dvc", "push", "--run-cache")
    assert "No changes." in ann.run("dvc", "data", "status", "--not-in-remote")
    late = team.clone("late")
    assert ran(late.run("dvc", "repro", "--pull")) == []
    assert results(late) == results(ann)


@SERVERS
def test_a_pull_that_failed_in_each_way_is_completed_by_the_next(place: Server, team: Team, ann: Workspace) -> None:
    ann.run("dvc", "push")
    bob = team.clone("bob")
    stranger = Workspace(bob.path, team.environment("bob", "stranger"))
    for command in ("push", "pull"):
        assert "Traceback" not in stranger.run("dvc", command, ok=False)
    fail("pull", bob, place, ".tmp")
    assert ran(bob.run("dvc", "repro", "--pull")) == []
    assert results(bob) == results(ann)


@SERVERS
def test_a_key_that_may_only_read_pulls_and_does_not_push(team: Team, ann: Workspace) -> None:
    ann.run("dvc", "push")
    bob = team.clone("bob")
    reader = Workspace(bob.path, team.environment("bob", "reader"))
    assert ran(reader.run("dvc", "repro", "--pull")) == []
    add_picture(reader, "another")
    reader.run("dvc", "push", "--run-cache", ok=False)
    assert "Not in remote:" in reader.run("dvc", "data", "status", "--not-in-remote")
    bob.run("dvc", "push", "--run-cache")
    assert "No changes." in bob.run("dvc", "data", "status", "--not-in-remote")


@pytest.mark.parametrize(
    ("place", "name"),
    [("folder", "model.pth"), ("s3", IMAGES), ("ssh", IMAGES)],
    indirect=["place"],
)
def test_a_flipped_byte_is_named_and_not_pulled_and_repaired(name: str, team: Team, ann: Workspace) -> None:
    ann.run("dvc", "push")
    corrupt = tail(ann, name)
    ann.run(sys.executable, "-c", FLIP, corrupt.replace("/", ""))
    assert f"{corrupt}: {name.split('/raw')[0]} of " in ann.run(*CHECK, "--remote", ok=False)
    bob = team.clone("bob")
    assert name.split("/raw")[0] in bob.run("dvc", "pull", ok=False)
    assert not (bob.path / name).exists()
    ann.run("sh", "-c", f"{' '.join(CHECK)} --remote --remove; dvc push")
    assert ann.run(*CHECK, "--remote") == "The remote is sound.\n"
    assert ran(bob.run("dvc", "repro", "--pull")) == []
    assert results(bob) == results(ann)


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_pull_killed_while_it_checks_out_is_completed_by_force(team: Team, ann: Workspace) -> None:
    ann.run("dvc", "push")
    bob = team.clone("bob")
    killed(bob, Moment("", "os.remove", "FashionMNIST/raw/.*.tmp", 2, "SIGKILL", "self"), "dvc", "pull")
    assert "unsaved files" in bob.run("dvc", "pull", ok=False)
    bob.run("dvc", "pull", "--force")
    assert ran(bob.run("dvc", "repro")) == []
    assert results(bob) == results(ann)


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_two_may_push_at_once(team: Team, ann: Workspace) -> None:
    bob = Workspace(ann.copy(team.folder / "bob").path, ann.environment)
    clones = {"first": ann, "second": bob}
    for branch, clone in clones.items():
        clone.run("git", "checkout", "--quiet", "-b", branch)
        add_picture(clone, branch)
        clone.run("git", "push", "--quiet", "origin", branch)
    with ThreadPoolExecutor() as both:
        list(both.map(lambda clone: clone.run("dvc", "push", "--run-cache"), clones.values()))
    for branch, clone in clones.items():
        late = team.clone(f"late-{branch}", branch)
        assert ran(late.run("dvc", "repro", "--pull")) == []
        assert results(late) == results(clone)

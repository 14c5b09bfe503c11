"""A team shares what it has run, over a folder, S3 and SSH."""

import json
import os
from pathlib import Path
import re
import sys

from dvc.utils.serialize import load_yaml
from model import MLP
from project import Team, Workspace, add_picture, cached, downstream, ran, results
import pytest
import torch

TAG = "fashion-mnist-classifier@v1.0.0"
LIST = "from dvc.repo import Repo; print(*Repo().cloud.get_remote_odb().all())"


def stored(workspace: Workspace) -> set[str]:
    """The names of the objects in the remote."""
    return set(workspace.run(sys.executable, "-c", LIST).split())


def outputs(workspace: Workspace) -> set[str]:
    """The names of the objects that the commit's outputs consist of, except those that git keeps."""
    stages = load_yaml(workspace.path / "dvc.lock")["stages"].values()
    names = {out["md5"] for stage in stages for out in stage["outs"] if out["path"] != "metrics.json"}
    cache = workspace.path / ".dvc" / "cache" / "files" / "md5"
    listings = [cache / name[:2] / name[2:] for name in names if name.endswith(".dir")]
    return names | {member["md5"] for listing in listings for member in json.loads(listing.read_text())}


def test_the_story_of_two_clones(team: Team, ann: Workspace) -> None:
    ann.run("dvc", "push", "--run-cache")
    assert stored(ann) == outputs(ann), "neither checkpoints nor reports"
    assert "No changes." in ann.run("dvc", "data", "status", "--not-in-remote")

    bob = team.clone("bob")
    assert ran(bob.run("dvc", "repro", "--pull")) == []
    assert results(bob) == results(ann)
    bob.run("git", "checkout", "--quiet", "-b", "slow")
    bob.set(train={"learning_rate": 1e-4})
    assert sorted(ran(bob.run("dvc", "repro"))) == sorted(downstream("train"))
    bob.run("git", "commit", "--quiet", "--all", "--message", "Learn more slowly")
    bob.run("git", "push", "--quiet", "origin", "slow")
    bob.run("dvc", "push", "--run-cache")
    assert "No changes." in bob.run("dvc", "data", "status", "--not-in-remote")

    ann.run("git", "fetch", "--quiet")
    printed = ann.run("sh", "-c", "dvc metrics diff main origin/slow --json 2>/dev/null")
    assert json.loads(printed)["metrics.json"]["accuracy"]["diff"] < 0
    assert not cached(ann, str(bob.path / "model.pth")).exists(), "the model is not pulled for it"
    ann.run("git", "checkout", "--quiet", "slow")
    assert ran(ann.run("dvc", "repro", "--pull")) == []
    assert results(ann) == results(bob)

    carol = team.clone("carol")
    carol.set(train={"learning_rate": 1e-4})
    assert ran(carol.run("dvc", "repro", "--pull")) == ["evaluate"], "its metrics.json is in git, not in the remote"
    assert results(carol) == results(bob)

    history = ann.run("git", "log", "--all", "--patch") + bob.run("git", "log", "--all", "--patch")
    assert "url = " in history
    assert not [secret for secret in team.place.secrets().values() if secret in history]


@pytest.mark.parametrize("shared", [False, True], ids=["without the setting", "with it"])
def test_two_users_of_a_group_push_into_its_folder(shared: bool, finished: Workspace, tmp_path: Path) -> None:
    group, store = 2000, tmp_path / "store"
    people = [finished.copy(tmp_path / str(user)).as_user(user, group) for user in (1001, 1002)]
    store.mkdir()
    os.chown(store, -1, group)
    store.chmod(0o2775)
    for person, user in zip(people, (1001, 1002), strict=True):
        for path in (person.path, *person.path.rglob("*")):
            os.chown(path, user, group, follow_symlinks=False)
        person.run("dvc", "remote", "modify", "--local", "store", "url", store)
        if shared:
            person.run("dvc", "remote", "modify", "--local", "store", "shared", "group")
    first, second = people
    first.run("dvc", "push")
    second.set(predict={"top": 2})
    assert ran(second.run("dvc", "repro")) == ["predict"]
    assert ("Permission denied" in second.run("dvc", "push", ok=shared)) is not shared


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_garbage_collection_keeps_what_a_commit_needs(team: Team, ann: Workspace) -> None:
    ann.run("dvc", "push")
    bob = team.clone("bob")
    bob.run("dvc", "pull")
    needed = outputs(bob)
    bob.run("git", "checkout", "--quiet", "-b", "more")
    add_picture(bob, "more")
    needed |= outputs(bob)
    bob.run("git", "push", "--quiet", "origin", "more")
    bob.run("dvc", "push")
    add_picture(bob, "given-up")
    bob.run("dvc", "push")
    bob.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    assert stored(ann) > needed
    lock = bob.path / "dvc.lock"
    lock.write_text(re.sub(r"\w+\.dir", f"{'0' * 32}.dir", lock.read_text()))
    bob.commit("Another dataset, which is never pushed")
    bob.run("git", "push", "--quiet", "origin", "more:not-pushed")

    cleaner = team.clone("cleaner")
    # At other commits, DVC takes a relative path from the root of the file system.
    cleaner.run("dvc", "remote", "modify", "--local", "store", "url", team.folder / "dvc-store")
    collect = "echo y | dvc gc --all-commits --cloud"
    assert "unable to fully collect used cache" in cleaner.run("sh", "-c", collect, ok=False)
    cleaner.run("sh", "-c", f"{collect} --skip-failed")
    assert stored(ann) == needed
    assert ran(team.clone("carol", "more").run("dvc", "repro", "--pull")) == []


def test_the_model_and_its_metrics_are_had_without_the_pipeline(team: Team, ann: Workspace) -> None:
    ann.run("git", "tag", "--annotate", TAG, "--message", "The first that is good enough")
    ann.run("git", "push", "--quiet", "origin", TAG)
    ann.run("dvc", "push")
    elsewhere = team.folder / "elsewhere"
    elsewhere.mkdir()
    consumer = Workspace(elsewhere, team.environment("consumer"))
    url = "../ann" if not team.place.secrets() else (team.folder / "origin.git").as_uri()

    consumer.run("dvc", "artifacts", "get", url, "fashion-mnist-classifier", "--rev", "v1.0.0")
    assert (elsewhere / "model.pth").read_bytes() == (ann.path / "model.pth").read_bytes()
    MLP(32).load_state_dict(torch.load(elsewhere / "model.pth", weights_only=True))

    consumer.run("dvc", "get", url, "metrics.json", "--rev", TAG)
    assert (elsewhere / "metrics.json").read_bytes() == (ann.path / "metrics.json").read_bytes()
    code = f"import dvc.api; print(dvc.api.read('metrics.json', {url!r}, {TAG!r}), end='')"
    assert consumer.run(sys.executable, "-c", code) == (ann.path / "metrics.json").read_text()

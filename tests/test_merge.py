"""What git brings together or takes apart, `make repro` finishes: two branches, and another machine's results."""

import json
from pathlib import Path
import re
import subprocess

from dvc.utils.serialize import loads_yaml
from project import STAGES, Workspace, ran, results
import pytest


def test_a_merge_of_two_values_runs_only_what_neither_branch_had(workspace: Workspace) -> None:
    changes = {"top": {"predict": {"top": 2}}, "flip": {"infer": {"test_time_flip": True}}}
    for branch, sections in changes.items():
        workspace.run("git", "checkout", "--quiet", "-b", branch, "main")
        workspace.set(**sections)
        workspace.run("dvc", "repro")
        workspace.commit(f"Change {branch}")
    assert "dvc.lock" in workspace.run("git", "merge", "top", ok=False)
    assert "<<<<<<<" not in (workspace.path / "dvc.lock").read_text()
    assert ran(workspace.run("make", "repro")) == ["predict"]
    workspace.run("git", "commit", "--quiet", "--all", "--message", "Merge branch top")
    assert workspace.run("git", "status", "--porcelain") == ""
    changed = json.loads(workspace.run("dvc", "params", "diff", "main", "--json"))["params.yaml"]
    assert {name: value["new"] for name, value in changed.items()} == {
        "predict.top": 2,
        "infer.test_time_flip": True,
    }
    assert ran(workspace.run("make", "repro")) == []


def test_conflict_markers_in_the_lock_are_no_matter(workspace: Workspace, finished: Workspace) -> None:
    """As git writes them where .gitattributes does not say otherwise."""
    lock = workspace.path / "dvc.lock"
    (workspace.path / ".gitattributes").unlink()
    workspace.commit("Without attributes")
    for branch in ("one", "two"):
        workspace.run("git", "checkout", "--quiet", "-b", branch, "main")
        lock.write_text(f"# {branch}\n{lock.read_text()}")
        workspace.commit(branch)
    workspace.run("git", "merge", "one", ok=False)
    assert "<<<<<<<" in lock.read_text()
    assert ran(workspace.run("make", "repro")) == []
    assert results(workspace) == results(finished)


@pytest.fixture
def clone(workspace: Workspace, tmp_path: Path) -> Workspace:
    """Of a project whose committed results another machine has computed, with other last digits."""
    lock = workspace.path / "dvc.lock"
    text = lock.read_text()
    for out in loads_yaml(text)["stages"]["train"]["outs"]:
        text = text.replace(out["md5"], out["md5"][::-1])
    lock.write_text(text)
    metrics = workspace.path / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"loss": 0.9}))
    workspace.commit("Results of another machine")
    clone = Workspace(tmp_path / "newcomer")
    subprocess.run(["git", "clone", "--quiet", workspace.path, clone.path], check=True)
    return clone


def test_results_of_this_machine_are_committed_once_and_then_come_from_the_cache(clone: Workspace) -> None:
    assert sorted(ran(clone.run("make", "repro"))) == sorted(STAGES)
    assert clone.run("git", "status", "--porcelain").split() == ["M", "dvc.lock", "M", "metrics.json"]
    clone.run("git", "commit", "--all", "--message", "Results of this machine")
    assert ran(clone.run("dvc", "exp", "run", "--set-param", "predict.index=1")) == ["predict"]
    clone.run("git", "checkout", ".")
    assert ran(clone.run("dvc", "repro")) == []
    clone.run("dvc", "checkout")
    assert clone.run("git", "status", "--porcelain") == ""

    printed = clone.run("dvc", "metrics", "diff", "HEAD~1")
    assert "failed to load some metrics for following revisions: 'HEAD~1'" in printed
    assert re.search(r"metrics\.json +loss +0\.9 ", printed)
    missing = "`dvc fetch --all-commits` brings what the remote has): curves.csv of HEAD~1"
    assert missing in clone.run("python", "tools/report.py", "HEAD~1")
    assert missing in (clone.path / "report.html").read_text()

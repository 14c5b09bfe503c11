"""The workflow of .github is one that GitHub takes, and its steps do what they are named for."""

from pathlib import Path
import subprocess
import sys
from typing import Any

from dvc.utils.serialize import load_yaml
from project import ROOT, Workspace
import pytest

FILE = ROOT / ".github" / "workflows" / "test.yml"
WORKFLOW: dict[str, Any] = load_yaml(FILE)
STEPS: list[dict[str, Any]] = WORKFLOW["jobs"]["test"]["steps"]


LOCK = "dvc.lock is of this code and these values"


def step(name: str, workspace: Workspace, ok: bool = True) -> str:
    """What the step of the name prints in the workspace."""
    [script] = [each["run"] for each in STEPS if each.get("name") == name]
    (workspace.path / ".venv").symlink_to(sys.prefix)
    return workspace.run("bash", "-e", "-c", script, ok=ok)


def test_it_is_a_workflow_that_needs_no_secret() -> None:
    schema = "vendor.github-workflows"
    subprocess.run([sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, FILE], check=True)
    assert "secrets." not in FILE.read_text()
    assert WORKFLOW["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("stale", [False, True])
def test_a_stale_lock_is_an_error_before_anything_is_trained(stale: bool, finished: Workspace, tmp_path: Path) -> None:
    clone = Workspace(tmp_path / "clone")
    subprocess.run(["git", "clone", "--quiet", finished.path, clone.path], check=True)
    if stale:
        clone.set(train={"epochs": 9})
    printed = step(LOCK, clone, ok=not stale)
    assert ("::error::dvc.lock is stale" in printed) is stale
    named = [each.get("name", each.get("run")) for each in STEPS]
    assert named.index(LOCK) < named.index(".ci/run")


def test_the_summary_and_the_report_compare_with_the_base(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("git", "checkout", "--quiet", "-b", "branch")
    workspace.set(predict={"top": 2})
    workspace.run("dvc", "repro")
    workspace.commit("Two classes")
    workspace.environment |= {"BASE": "main", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    step("Compare with the base", workspace)
    summary = (tmp_path / "summary").read_text()
    assert "| metrics.json | accuracy |" in " ".join(summary.split())
    assert "| params.yaml | predict.top | 3 | 2 |" in " ".join(summary.split())
    assert (workspace.path / "report.html").exists()

"""The pipeline as its users drive it, with the real `dvc` and `git`, on a tiny dataset."""

import json

from project import STAGES, Workspace, downstream, ran


def test_repro_runs_four_stages_then_none_and_an_experiment_the_changed_one(
    finished: Workspace, workspace: Workspace
) -> None:
    assert sorted(ran(finished.printed)) == sorted(STAGES)
    assert 'Predicted: "' in finished.printed
    assert json.loads((workspace.path / "metrics.json").read_text())["accuracy"] > 0.9
    printed = workspace.run("dvc", "repro")
    assert ran(printed) == []
    assert "Data and pipelines are up to date." in printed
    assert ran(workspace.run("dvc", "exp", "run", "--set-param", "predict.index=1")) == ["predict"]


def test_metrics_differ_between_branches_as_their_values_do(workspace: Workspace) -> None:
    before = json.loads((workspace.path / "metrics.json").read_text())
    workspace.run("git", "checkout", "--quiet", "-b", "slow")
    workspace.set(train={"learning_rate": 1e-4})
    assert sorted(ran(workspace.run("dvc", "repro"))) == sorted(downstream("train"))
    workspace.run("git", "commit", "--quiet", "--all", "--message", "Learn more slowly")
    after = json.loads((workspace.path / "metrics.json").read_text())
    assert after["accuracy"] < before["accuracy"]
    difference = json.loads(workspace.run("dvc", "metrics", "diff", "main", "--json"))["metrics.json"]
    assert difference["accuracy"] == {
        "old": before["accuracy"],
        "new": after["accuracy"],
        "diff": after["accuracy"] - before["accuracy"],
    }
    assert "| metrics.json  | accuracy " in workspace.run("dvc", "metrics", "diff", "main", "--md")

    workspace.run("git", "checkout", "--quiet", "main")
    assert ran(workspace.run("dvc", "repro")) == [], "what main had comes from the cache"
    assert json.loads((workspace.path / "metrics.json").read_text()) == before


def test_the_plots_are_drawn_with_titles(workspace: Workspace) -> None:
    workspace.run("dvc", "plots", "show")
    page = (workspace.path / "dvc_plots" / "index.html").read_text()
    for title in (
        "Loss",
        "validation_loss",
        "Accuracy on the images held out",
        "Confusion matrix of the test split",
        "F1 of each class",
    ):
        assert title in page

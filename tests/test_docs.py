"""The pages are true: their commands run as printed, the change they lead through works, what they name is there."""

import ast
import json
from pathlib import Path
import re
import subprocess
import sys

from dvc.utils.serialize import load_yaml
from project import PARAMS, RECIPES, ROOT, Workspace, blocks, commands, ran
import pytest

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
TUTORIAL = ("from-the-tutorial.md", "from-the-tutorial.ko.md")
SMALLER = {
    "URL": "../origin.git",
    "_size=10000": "_size=100",
    "seeds.py 2": "seeds.py 1",
    "seeds.py 3": "seeds.py 1",
    "SEEDS=2": "SEEDS=1",
    "seed=0,1": "seed=0",
    "momentum=0.9 -S": "momentum=0.5 -S",  # which the tests' workspace does not have yet
}
TYPED = ["README.md", "docs/experiments.md", "docs/pictures.md", "docs/more-machines.md", "docs/sharing.md"]


@pytest.mark.parametrize("page", TYPED)
def test_the_commands_of_a_page_run_as_printed_from_top_to_bottom(page: str, workspace: Workspace) -> None:
    assert commands(page)
    workspace.add_origin()
    script = commands(page).replace(" && ", "\n")  # before which -e overlooks a failure
    for printed, smaller in SMALLER.items():
        script = script.replace(printed, smaller)
    try:
        workspace.run("bash", "-e", "-o", "pipefail", "-x", "-c", script)
    finally:
        if "dvc queue start" in script:
            workspace.run("dvc", "queue", "stop", "--kill")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_targets_of_make_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"`make ([a-z]+)[ `]", text)) | set(re.findall(r"^\$ make ([a-z]+)", text, re.MULTILINE))
    listed = re.findall(r"^([a-z$()A-Z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets <= {*listed, *RECIPES}


def test_make_lists_its_targets_and_a_misspelt_recipe_is_an_error(workspace: Workspace) -> None:
    listed = [line.split(":")[0] for line in workspace.run("make").splitlines()]
    assert listed == [
        f"make {name}" for name in ("repro", " ".join(RECIPES), "export", "report", "check", "test", "bench")
    ]
    assert "No rule to make target 'quik'" in workspace.run("make", "quik", ok=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for name, target in re.findall(r"\[(.*?)\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name} links to {target}"
        if file.suffix == ".py" and (function := re.fullmatch(r"`(\w+)`", name)):
            defined = {getattr(node, "name", None) for node in ast.walk(ast.parse(file.read_text()))}
            assert function[1] in defined, f"{page.name} names {function[1]} in {path}"


def test_the_readme_is_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_bytes()) < 9000


def test_the_code_to_read_first_is_read_in_one_go_too() -> None:
    spine = [(ROOT / "stages" / f"{name}.py").read_text() for name in ("dataset", "model", "train", "evaluate")]
    assert sum(text.count("\n") for text in spine) <= 450


VALUES = load_yaml(ROOT / "params.yaml")


@pytest.mark.skipif(any(VALUES[name] != PARAMS[name] for name in PARAMS), reason="the values are not the tutorial's")
def test_the_results_that_the_readme_prints_are_the_committed_ones() -> None:
    """To two digits: those of a GPU are others."""
    metrics = json.loads((ROOT / "metrics.json").read_text())
    page = (ROOT / "README.md").read_text()
    printed = dict(re.findall(r"^metrics\.json +(\w+) +([\d.]+) ", page, re.MULTILINE))
    assert {name: float(value) for name, value in printed.items()} == pytest.approx(metrics, abs=0.01)
    [(accuracy, loss)] = re.findall(r"Accuracy: ([\d.]+)%, Avg loss: ([\d.]+)", page)
    assert (float(accuracy) / 100, float(loss)) == pytest.approx((metrics["accuracy"], metrics["loss"]), abs=0.01)


def test_the_tests_that_the_promises_name_are_there() -> None:
    named = re.findall(r"`(test_\w+\.py)`", (ROOT / "docs" / "promises.md").read_text())
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def test_both_languages_show_the_same_changes_and_the_same_places() -> None:
    english, korean = (ROOT / "docs" / name for name in TUTORIAL)
    for pattern in (r"```diff\n.*?```", r"\]\(\.\./[^)]+\)", r"^\$ [^#\n]+"):
        flags = re.DOTALL if "diff" in pattern else re.MULTILINE
        assert re.findall(pattern, english.read_text(), flags) == re.findall(pattern, korean.read_text(), flags)


@pytest.mark.skipif("dropout" in PARAMS["model"], reason="the exercise is done")
def test_the_exercise_works_as_printed(workspace: Workspace) -> None:
    files = [workspace.path / name for name in ("stages/model.py", "tests/values.py", "params.yaml")]
    workspace.set(model={"hidden_size": 512})  # as the page has it
    for diff in blocks("docs/from-the-tutorial.md", "diff"):
        lines = diff.splitlines(keepends=True)
        before, after = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
        [file] = [file for file in files if before in file.read_text()]
        file.write_text(file.read_text().replace(before, after))
    workspace.set(model={"hidden_size": 32})
    for recipe in (workspace.path / "recipes").iterdir():
        line = "--set-param=model.hidden_size=512\n"
        recipe.write_text(recipe.read_text().replace(line, f"{line}--set-param=model.dropout=0.0\n"))
    model = (workspace.path / "model.pth").read_bytes()
    assert "train" in ran(workspace.run("dvc", "repro", "train"))
    assert (workspace.path / "model.pth").read_bytes() == model
    changed = workspace.run("dvc", "exp", "run", "-S", "model.dropout=0.1", "-S", "train.momentum=0.8", "evaluate")
    assert "evaluate" in ran(changed)
    assert (workspace.path / "model.pth").read_bytes() != model
    contract = (sys.executable, "-m", "pytest", "--numprocesses=0", "--quiet")
    chosen = "params or recipe_sets or code or section or answers_that or answer_to or broken or another or imported"
    files = ("tests/test_pipeline.py", "tests/test_model.py", "tests/test_evaluate.py")
    workspace.run(*contract, *files, "-k", chosen)
    workspace.set(model={"dropout": 1.5})
    refused = 'train: Invalid value "1.5" for --dropout. Must be < 1. (see params.yaml)'
    assert refused in workspace.run("dvc", "repro", ok=False)
    assert refused in (ROOT / "docs" / "from-the-tutorial.md").read_text()


def test_the_line_for_slurm_is_the_jobs_own() -> None:
    """With a stand-in for what SLURM gives: two jobs on one node get other ports and other names."""
    [script] = blocks("docs/more-machines.md", "bash")
    lines = script[script.index("HOST=") : script.index("make best")]
    command = f"scontrol() {{ echo node1; }}\n{lines}\necho $LAUNCH"
    for job in ("1041", "1042"):
        printed = subprocess.check_output(["bash", "-c", command], env={"SLURM_JOB_ID": job}, text=True)
        assert f"--rdzv-id {job} --rdzv-endpoint node1:2{job}" in printed

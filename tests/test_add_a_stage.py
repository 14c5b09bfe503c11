"""docs/add-a-stage.md works as printed, and whoever forgets a step of it reads which one."""

import json
import re
import sys

from project import PARAMS, STAGES, Workspace, blocks, ran, stale
import pytest

PAGE = "docs/add-a-stage.md"
SCRIPT, SECTION = blocks(PAGE, "python")
[DECLARATION] = blocks(PAGE, "yaml")
PYTEST = (sys.executable, "-m", "pytest", "--numprocesses=0", "--quiet", "tests/test_pipeline.py")

pytestmark = pytest.mark.skipif("describe" in STAGES, reason="the project has this stage already")


def add(workspace: Workspace, script: str = SCRIPT, declaration: str = DECLARATION, name: str = "describe") -> None:
    (workspace.path / "stages" / f"{name}.py").write_text(script)
    file = workspace.path / "dvc.yaml"
    file.write_text(file.read_text().replace("\nplots:", f"\n{declaration}\nplots:"))


def test_the_stage_of_the_page_runs_and_keeps_the_contract(workspace: Workspace) -> None:
    add(workspace)
    assert ran(workspace.run("dvc", "repro")) == ["describe"]
    workspace.run("git", "add", "--all")
    workspace.run(*PYTEST, "tests/test_cache.py", "-k", "describe or ignores or module or begins")
    described = json.loads((workspace.path / "model.json").read_text())
    assert described == {"network": "mlp", "weights": 26506, "classes": PARAMS["labels"]["classes"]}
    assert ran(workspace.run("dvc", "repro")) == []
    params = (workspace.path / "params.yaml").read_text().replace("Trouser", "Trousers")
    assert stale(workspace, "params.yaml", params.encode()) == {"evaluate", "predict", "describe"}


def test_a_section_of_its_own_is_taken_and_a_wrong_value_named(workspace: Workspace) -> None:
    script = SCRIPT.replace("import run", "import run, section, number").replace(
        "model: Model)", "model: Model, describe: Describe)"
    )
    script = script.replace("\n\ndef describe", f"\n\n{SECTION}\n\ndef describe").replace(
        "from pathlib", "from typing import Annotated\nfrom pathlib"
    )
    declaration = DECLARATION.replace("${model}", "${model} ${describe}").replace(
        "- labels", "- describe\n      - labels"
    )
    add(workspace, script, declaration)
    with (workspace.path / "params.yaml").open("a") as params:
        params.write("\ndescribe:\n  digits: 4  # decimals\n")
    workspace.run(*PYTEST, "-k", "describe or section")
    workspace.set(describe={"digits": 0})
    printed = workspace.run("dvc", "repro", "--single-item", "describe", ok=False)
    assert 'describe: Invalid value "0" for --digits. Must be >= 1. (see params.yaml)' in printed


PARAMS_OF_DESCRIBE = DECLARATION[DECLARATION.index("    params:") : DECLARATION.index("    outs:")]
FORGOTTEN = {
    "the function": {
        (
            "def describe(",
            "def explain(",
        ): "stages/describe.py has no function describe: a stage is a function of its name",
        (re.findall("    desc:.*\n", DECLARATION)[0], ""): "stage describe in dvc.yaml has no `desc`",
    },
    "the guard": {
        ('if __name__ == "__main__":\n    run', "run"): "stages/describe.py does not end with `if __name__ ==",
    },
    "that a script is imported": {
        ("import Model\n", "import Model\nprint()\n"): "line 9 of stages/describe.py runs when the script is imported",
    },
    "that paths are arguments, and all lists": {
        ("description_file: Path, /", "/, description_file: Path"): "describe() takes paths by keyword",
        ("      - stages/dataset.py\n", ""): "the `deps` of describe are not the files that stages/describe.py imports",
        (PARAMS_OF_DESCRIBE, ""): "`params` and `cmd` of describe name different sections of params.yaml",
    },
    "the first line and the packages": {
        (
            "model.pth → model.json",
            "Describes the model",
        ): "the first line of stages/describe.py does not name the paths",
        (
            "      - pyproject.toml:\n          - project.dependencies\n",
            "",
        ): "`params` of describe lacks `pyproject.toml:",
    },
    "the script": {
        ("      exec python stages/describe.py", "      python stages/describe.py"): (
            "the `cmd` of describe does not start with `exec python stages/describe.py`"
        ),
    },
    "another script": {
        ("exec python stages/describe.py", "exec python stages/train.py"): "the `cmd` of describe runs another script",
    },
    "a path": {
        ("description_file: Path, /", "/"): "describe() takes 1 paths, its `cmd` has 2",
    },
    "an output": {
        ("      model.json\n", ""): "the paths in the `cmd` of describe are not its data and outputs",
        (", model: Model", ""): "the keywords of describe() are not the sections in its `cmd`",
    },
}


def test_each_forgotten_step_is_named_in_a_sentence(workspace: Workspace) -> None:
    """In one project that has a stage for each step, of which that was forgotten."""
    sentences = []
    for number, changes in enumerate(FORGOTTEN.values()):
        name, script, declaration = f"describe{number}", SCRIPT, DECLARATION
        for (before, after), sentence in changes.items():
            assert before in script + declaration
            script, declaration = script.replace(before, after), declaration.replace(before, after)
            sentences.append(sentence.replace("describe", name))
        add(workspace, script.replace("describe", name), declaration.replace("describe", name), name)
    printed = workspace.run(*PYTEST, "-k", "describe", ok=False)
    assert [sentence for sentence in sentences if sentence not in printed] == []
    assert "KeyError" not in printed

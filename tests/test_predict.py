"""Predictions are those of the model, for a test image and for any readable picture."""

from contextlib import chdir, redirect_stdout
import csv
from dataclasses import replace
from io import StringIO
import json
import os
from pathlib import Path
import re
import shutil
from typing import Any

import classify as tool
from dataset import read_split
from grid import draw_cell
from PIL import Image
from predict import Predict, predict
from project import PARAMS, Workspace, run_in_process
import pytest
from values import COMPUTE, INFER, LABELS, MODEL, TRAIN, trained

OUTPUTS = ("predictions.csv", "predictions.png")
SECTIONS: dict[str, Any] = {"infer": INFER, "labels": LABELS, "model": MODEL, "compute": COMPUTE}


def predicted(dataset: Path, model: Path, pictures: Path, index: int = 3, top: int = 3) -> None:
    """Predict the pictures, into the folder that holds theirs."""
    files = (pictures.parent / name for name in OUTPUTS)
    predict(dataset, model, pictures, *files, predict=Predict(index, top), **SECTIONS)


@pytest.fixture(scope="module")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    trained(dataset, folder, replace(TRAIN, epochs=5, batch_size=16))
    return folder / "model.pth"


@pytest.fixture
def pictures(dataset: Path, tmp_path: Path) -> Path:
    """The first test images as pictures, in two folders and two formats."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    images, _ = read_split(dataset, "t10k")
    for number, name in enumerate(["0.png", "1.png", "more/2.bmp"]):
        Image.fromarray(images[number, 0].numpy()).save(tmp_path / "pictures" / name)
    for hidden in (".hidden", ".folder/hidden"):
        (tmp_path / "pictures" / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / "pictures" / hidden).write_text("not a picture")
    return tmp_path / "pictures"


def test_the_test_image_and_each_picture_are_classified(
    dataset: Path, model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, labels = read_split(dataset, "t10k")
    predicted(dataset, model, pictures)
    assert f'Predicted: "class {labels[3]}", Actual: "class {labels[3]}"' in capsys.readouterr().out
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows[::3]] == ["0.png", "1.png", "more/2.bmp"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 3
    assert [row["class"] for row in rows[::3]] == [f"class {label}" for label in labels[:3]]
    assert all(0.5 < float(row["probability"]) <= 1 for row in rows[::3])
    for first, second, third in zip(*(iter(rows),) * 3, strict=True):
        shares = [float(row["probability"]) for row in (first, second, third)]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 1.0001


def test_the_grid_shows_each_picture_beside_what_the_network_sees(
    dataset: Path, model: Path, pictures: Path, tmp_path: Path
) -> None:
    images, _ = read_split(dataset, "t10k")
    predicted(dataset, model, pictures)
    with Image.open(tmp_path / "predictions.png") as grid:
        assert grid.size == (4 * 92, 2 * 126)
        for column in (0, 92):
            shown = grid.crop((column + 4, 4, column + 88, 88)).resize((28, 28), Image.Resampling.NEAREST).convert("L")
            assert shown == Image.fromarray(images[0, 0].numpy())


def test_a_grid_that_leaves_pictures_out_says_how_many(dataset: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(53):
        Image.new("L", (28, 28), "white").save(tmp_path / "pictures" / f"{number}.png")
    predicted(dataset, model, tmp_path / "pictures", top=1)
    with Image.open(tmp_path / "predictions.png") as grid:
        assert grid.size == (4 * 92, 26 * 126)
        said = draw_cell(Image.new("L", (1, 1)), "and 3 more in\npredictions.csv")
        assert grid.crop((0, 25 * 126, 92, 26 * 126)) == said
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 53


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_a_picture_that_cannot_be_read_is_named_and_nothing_is_written(
    content: bytes, dataset: Path, model: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "broken.png").write_bytes(content)
    with pytest.raises(SystemExit, match=r"broken\.png: not a picture"):
        predicted(dataset, model, pictures)
    assert not any((tmp_path / name).exists() for name in OUTPUTS)


def test_a_warning_stands_beside_the_answer(
    dataset: Path, model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (100, 100), "white").save(pictures / "0.png")
    predicted(dataset, model, pictures, top=1)
    assert re.search(r'^0\.png: "class \d" [\d.]+ \(nothing in it\)$', capsys.readouterr().out, re.MULTILINE)
    with (tmp_path / "predictions.csv").open() as file:
        assert [row["warning"] for row in csv.DictReader(file)] == ["nothing in it", "", ""]


def test_an_index_outside_the_test_split_is_refused(dataset: Path, model: Path, pictures: Path) -> None:
    with pytest.raises(SystemExit, match="--index 200: the test split has the images 0 to 199"):
        predicted(dataset, model, pictures, index=200)


def test_a_folder_without_pictures_gives_an_empty_table_and_says_so(
    dataset: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    predicted(dataset, model, tmp_path / "pictures")
    assert (tmp_path / "predictions.csv").read_text() == "file,rank,class,probability,warning\n"
    assert "pictures: no pictures in it" in capsys.readouterr().out


def test_a_name_with_a_line_break_and_a_comma_or_not_in_utf_8_stays_one_row(
    dataset: Path, model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "0.png").rename(pictures / "a,\nb.png")
    (pictures / "1.png").rename(pictures / os.fsdecode(b"b\xe9.png"))
    predicted(dataset, model, pictures, top=1)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["a,\nb.png", "b\\udce9.png", "more/2.bmp"]
    assert "'a,\\nb.png': \"class " in capsys.readouterr().out


def classify(folder: Path, *arguments: str | Path) -> tuple[str, str]:
    """What `classify` prints, in this process and a folder of the user's, and what it ends with."""
    with chdir(folder), redirect_stdout(StringIO()) as printed:
        ended = run_in_process(tool.main, "classify.py", *map(str, arguments))
    return printed.getvalue(), ended


def test_pictures_anywhere_are_classified_with_model_pth_alone(model: Path, pictures: Path) -> None:
    Image.new("RGB", (100, 100), "white").save(pictures / "more" / "blank.png")
    printed, ended = classify(pictures, model, "0.png", "more", "--hidden_size=32", "--top=2", "--json")
    assert not ended
    first, *others = map(json.loads, printed.splitlines())
    assert [each["file"] for each in (first, *others)] == ["0.png", "more/2.bmp", "more/blank.png"]
    assert [each["warning"] for each in (first, *others)] == ["", "", "nothing in it"]
    assert len(first["classes"]) == 2
    assert first["classes"][0]["probability"] >= first["classes"][1]["probability"]


def test_classify_answers_as_the_pipeline_does_with_the_values_of_params_yaml(workspace: Workspace) -> None:
    (workspace.path / "own").mkdir()
    (workspace.path / "own" / "model.py").write_text("raise ImportError('a module of the user')")
    workspace.environment["PYTHONPATH"] = str(workspace.path / "own")
    printed = workspace.run("python", "tools/classify.py", "model.pth", "data/pictures", "--json", "--top=1")
    answers = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    with (workspace.path / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["rank"] == "1"]
    shown = [(Path(answer["file"]).name, *answer["classes"][0].values()) for answer in answers]
    assert shown == [(row["file"], row["class"], float(row["probability"])) for row in rows]


def test_classify_answers_what_it_can_read_and_ends_with_what_it_cannot(model: Path, pictures: Path) -> None:
    (pictures / "broken.png").touch()
    printed, ended = classify(pictures, model, "0.png", "broken.png", "more", "--hidden_size=32")
    assert [line.split(": ")[0] for line in printed.splitlines()] == ["0.png", "more/2.bmp"]
    assert ended.startswith("broken.png: not a picture in a format that Pillow reads")


def test_a_reader_of_classify_that_has_enough_ends_it_without_a_word(workspace: Workspace) -> None:
    for number in range(500):
        shutil.copy(workspace.path / "data" / "pictures" / "bag.png", workspace.path / f"{number}.png")
    printed = workspace.run("bash", "-c", "python tools/classify.py model.pth *.png --json | head -1")
    assert printed.count("\n") == 2, printed


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (["0.png"], "classify: no pictures; name files, or folders with pictures in them, after 0.png"),
        (["model.pth", "gone.png"], "gone.png: cannot be read as a picture (No such file or directory)"),
        (["model.pth", "0.png"], "model.pth: not the weights of mlp (hidden_size 32"),
        (["gone.pth", "0.png"], "gone.pth: No such file or directory; `dvc repro train` makes it"),
    ],
)
def test_classify_says_what_is_wrong(
    files: list[str], error: str, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pictures)
    Path("model.pth").touch()
    with pytest.raises(SystemExit, match=f"^{re.escape(error)}"):
        tool.classify(*map(Path, files), top=3, **SECTIONS)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("--top=11", 'classify: Invalid value "11" for --top'),
        ("--jsn", "classify: Unknown option: --jsn. Did you mean --json? (see --help and params.yaml)"),
    ],
)
def test_a_wrong_option_of_classify_is_named(option: str, error: str, pictures: Path) -> None:
    printed, ended = classify(pictures, "model.pth", "0.png", option)
    assert printed == ""
    assert ended.startswith(error)


def test_a_params_yaml_that_classify_cannot_read_is_named_with_its_line(workspace: Workspace) -> None:
    (workspace.path / "params.yaml").write_text("model:\n  network: mlp: cnn\n")
    printed = workspace.run("python", "tools/classify.py", "model.pth", "data/pictures", ok=False)
    assert printed.startswith(f"classify: {workspace.path}/params.yaml: mapping values are not allowed")
    assert "line 2" in printed
    assert printed.count("\n") == 1


def test_the_help_of_classify_describes_each_option_and_requires_but_the_model(tmp_path: Path) -> None:
    printed, ended = classify(tmp_path, "--help")
    assert not ended
    assert printed.startswith("Usage: classify.py [OPTIONS] MODEL_FILE [ARGS...]\n")
    assert printed.count("[required]") == 1
    options = re.findall(r"│ (--\w+)( [A-Z.]+)? +(\w.*)│\n", printed)
    sections = (PARAMS["infer"] | PARAMS["labels"] | PARAMS["model"] | PARAMS["compute"]).keys()
    assert {name for name, _, description in options if description.strip()} == {
        f"--{name}" for name in ["json", "top", *sections]
    }

"""The exported model answers as the pipeline does, wherever it is used."""

import csv
from dataclasses import asdict, replace
from importlib.metadata import files
import json
from pathlib import Path
import re
import sys
from typing import Any

from dataset import read_split
from evaluate import evaluate
from export import export, markdown
from faults import Moment, killed
from infer import Infer, average_logits, load
from model import Model
import numpy as np
import onnxruntime
from PIL import Image
from project import ONNX, ROOT, Workspace, blocks, commands, outputs
import pytest
from values import COMPUTE, INFER, LABELS, MODEL, TRAIN, trained

PAGE = "docs/elsewhere.md"
CARD = ROOT / "stages" / "model-card.md"
VIEWS = Infer(test_time_flip=True, test_time_shift=1)
SECTIONS: dict[str, Any] = {"infer": VIEWS, "labels": LABELS, "model": MODEL, "compute": COMPUTE}


def exported(dataset: Path, folder: Path, model: Model = MODEL, infer: Infer = VIEWS) -> onnxruntime.InferenceSession:
    """Train, evaluate and export a network in the folder, and load it there."""
    trained(dataset, folder, TRAIN, model)
    names = ("metrics.json", "confusion.csv", "classes.csv", "reliability.csv", "mistakes.png")
    metrics, _, classes, *_ = written = [folder / name for name in names]
    sections = SECTIONS | {"infer": infer, "model": model}
    evaluate(dataset, folder / "model.pth", *written, **sections)
    read = (folder / "model.pth", metrics, classes, CARD)
    export(*read, folder / ONNX, folder / f"{ONNX}.md", train=TRAIN, **sections)
    return onnxruntime.InferenceSession(folder / ONNX)


NETWORKS = [
    (MODEL, INFER),
    *((replace(MODEL, network=name), VIEWS) for name in ("cnn", "resnet", "mobilenet_v3_small")),
]


@pytest.mark.parametrize(("model", "infer"), NETWORKS)
def test_onnx_runtime_answers_as_evaluate_does(model: Model, infer: Infer, dataset: Path, tmp_path: Path) -> None:
    session = exported(dataset, tmp_path, model, infer)
    images, labels = read_split(dataset, "t10k")
    probabilities = np.asarray(session.run(None, {"images": images[:, 0].numpy()})[0])
    expected = average_logits(load(tmp_path / "model.pth", model), images, infer).softmax(1).numpy()
    assert np.abs(probabilities - expected).max() < 1e-5
    accuracy = (probabilities.argmax(1) == labels.numpy()).mean()
    assert round(accuracy, 4) == json.loads((tmp_path / "metrics.json").read_text())["accuracy"]
    one = np.asarray(session.run(None, {"images": images[7].numpy()})[0])
    assert np.abs(one - expected[7]).max() < 1e-5


@pytest.fixture(scope="module")
def folder(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a network has been trained, evaluated and exported."""
    folder = tmp_path_factory.mktemp("exported")
    exported(dataset, folder)
    return folder


def test_the_file_says_what_it_is(folder: Path) -> None:
    metadata = onnxruntime.InferenceSession(folder / ONNX).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == LABELS.classes
    assert json.loads(metadata["metrics"]) == json.loads((folder / "metrics.json").read_text())
    sections = {"train": TRAIN, "infer": VIEWS, "model": MODEL, "compute": COMPUTE}
    assert json.loads(metadata["values"]) == {name: asdict(section) for name, section in sections.items()}
    page = (ROOT / PAGE).read_text()
    for direction in ("input", "output"):
        assert f"| {direction} `{metadata[direction].split(':')[0]}` |" in page
        assert metadata[direction].split("; ")[-1].split(", ")[-1] in page


def test_the_card_has_every_metric_class_and_value_and_its_code_runs(folder: Path) -> None:
    card = (folder / f"{ONNX}.md").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "| {accuracy} ± {accuracy_standard_error} | {loss} |".format(**metrics) in card
    with (folder / "classes.csv").open() as file:
        assert all(f"| {' | '.join(row)} |" in card for row in csv.reader(file))
    assert "| model.hidden_size | 32 |" in card
    assert "26,506 weights" in card
    assert "$" not in card
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    printed = Workspace(folder).run(sys.executable, "-c", code)
    assert re.fullmatch(r"class \d 0\.\d+\n", printed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"It is $accurate.", r"card\.md: 'accurate' is not one of \$accuracy, "),
        (b"It costs $5.", r"card\.md: Invalid placeholder .*; write \$\$ for a dollar sign"),
        (b"\xff", r"card\.md: 'utf-8' codec .*, in UTF-8"),
    ],
)
def test_a_card_that_cannot_be_filled_in_is_named(text: bytes, message: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_bytes(text)
    read = (folder / "model.pth", folder / "metrics.json", folder / "classes.csv", tmp_path / "card.md")
    with pytest.raises(SystemExit, match=message):
        export(*read, tmp_path / ONNX, tmp_path / f"{ONNX}.md", train=TRAIN, **SECTIONS)
    assert not (tmp_path / ONNX).exists()


def test_a_class_of_any_name_is_a_cell_of_the_cards_table() -> None:
    row = ["T|shirt <b> *top* _a_ [b](c) &lt; ~~d~~", "batch_size"]
    expected = r"| T\|shirt \<b> \*top\* \_a\_ \[b\](c) \&lt; \~\~d\~\~ | batch_size |"
    assert markdown([["class", "f1"], row]).splitlines()[2] == expected


def test_another_format_is_refused(folder: Path) -> None:
    read = (folder / "model.pth", folder / "metrics.json", folder / "classes.csv", CARD)
    with pytest.raises(SystemExit, match=r"export\.formats: tflite is not known; onnx is$"):
        export(*read, folder / "model.tflite", folder / "model.tflite.md", train=TRAIN, **SECTIONS)


@pytest.fixture(scope="module")
def published(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose owner has exported the model and published it, as the page says."""
    workspace = finished.copy(tmp_path_factory.mktemp("published") / "clone")
    workspace.add_origin()
    workspace.run("bash", "-e", "-o", "pipefail", "-c", commands(PAGE).replace("URL", "$OLDPWD"))
    return workspace


def test_elsewhere_the_answers_are_those_of_classify(published: Workspace, tmp_path: Path) -> None:
    """Where Python finds only ONNX Runtime, NumPy, Pillow and SciPy."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in ("onnxruntime", "numpy", "pillow", "scipy"):
        for top in {file.parts[0] for file in files(name) or []} - {"..", "__pycache__"}:
            (packages / top).symlink_to(np.__path__[0] + f"/../{top}")
    elsewhere = Workspace(published.path.with_name("elsewhere"), {"PYTHONPATH": str(packages)})
    assert {file.name for file in elsewhere.path.iterdir()} == {ONNX, f"{ONNX}.md", "pictures.py", "garment.py"}
    [answer] = blocks(PAGE, "python")
    (elsewhere.path / "answer.py").write_text(answer)
    Image.new("RGB", (50, 50)).save(tmp_path / "blank.png")  # whose answer has a warning
    pictures = [tmp_path / "blank.png", *sorted((published.path / "data" / "pictures").glob("*.png"))]
    python = (Path(sys.base_prefix, "bin", "python3"), "-S")
    assert "No module named 'torch'" in elsewhere.run(*python, "-c", "import torch", ok=False)
    printed = elsewhere.run(*python, "answer.py", *pictures)
    classified = published.run("python", "tools/classify.py", "model.pth", *pictures, "--top", "1")
    assert printed.splitlines() == classified.splitlines()[1:]
    assert "(nothing in it)" in printed
    assert "garment.py: not a picture" in elsewhere.run(*python, "answer.py", "garment.py", ok=False)


def test_a_killed_export_needs_no_clean_up_and_another_folder_gives_the_same_bytes(
    published: Workspace, tmp_path: Path
) -> None:
    workspace = published.copy(tmp_path / "another" / "folder")
    moment = Moment("export@onnx", "open", f"{ONNX}.md.tmp", 1, "SIGKILL", "self")  # between the file and its card
    killed(workspace, moment, "dvc", "repro", "--force", "--single-item", moment.stage)
    assert not (workspace.path / f"{ONNX}.md").exists()
    workspace.run("dvc", "repro", "--force", "--single-item", "export@onnx")
    for name in outputs("export"):
        assert (workspace.path / name).read_bytes() == (published.path / name).read_bytes()
    assert str(ROOT).encode() not in (workspace.path / ONNX).read_bytes()


def test_the_default_run_knows_nothing_of_it(finished: Workspace) -> None:
    assert "export" not in finished.run("dvc", "dag", "--dot") + finished.run("dvc", "status") + finished.printed

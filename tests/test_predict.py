"""Predictions are those of the model, for a test image and for any readable picture."""

import csv
from pathlib import Path

import pytest
from conftest import VALUES as ANSWERING
from conftest import trained
from dataset import read_split
from PIL import Image
from predict import predict, read_picture

VALUES = ANSWERING | {"index": 3}


@pytest.fixture(scope="module")
def model(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    trained(dataset, folder, epochs=5, batch_size=16)
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
    predict(dataset, model, pictures, tmp_path / "predictions.csv", **VALUES)
    assert f'Predicted: "class {labels[3]}", Actual: "class {labels[3]}"' in capsys.readouterr().out
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["0.png", "1.png", "more/2.bmp"]
    assert [row["predicted"] for row in rows] == [f"class {label}" for label in labels[:3]]
    assert all(0.5 < float(row["confidence"]) <= 1 for row in rows)


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_a_picture_that_cannot_be_read_is_named_and_nothing_is_written(
    content: bytes, dataset: Path, model: Path, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "broken.png").write_bytes(content)
    with pytest.raises(SystemExit, match=r"broken\.png: cannot be read as a picture"):
        predict(dataset, model, pictures, tmp_path / "predictions.csv", **VALUES)
    assert not (tmp_path / "predictions.csv").exists()


def test_a_truncated_picture_is_named(pictures: Path) -> None:
    file = pictures / "0.png"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(SystemExit, match=r"0\.png: cannot be read"):
        read_picture(file)


def test_colour_size_and_shape_are_adapted(tmp_path: Path) -> None:
    Image.new("RGBA", (280, 140), (255, 255, 255, 255)).save(tmp_path / "wide.png")
    picture = read_picture(tmp_path / "wide.png")
    assert picture.shape == (1, 28, 28)
    assert picture[0, 7:21].min() == 255
    assert picture[0, :6].max() == 0


def test_an_index_outside_the_test_split_is_refused(dataset: Path, model: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--index 200: the test split has the images 0 to 199"):
        predict(dataset, model, pictures, tmp_path / "predictions.csv", **(VALUES | {"index": 200}))


def test_a_folder_without_pictures_gives_an_empty_table(dataset: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    predict(dataset, model, tmp_path / "pictures", tmp_path / "predictions.csv", **VALUES)
    assert (tmp_path / "predictions.csv").read_text() == "file,predicted,confidence\n"

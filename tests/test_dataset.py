"""A dataset that the network cannot learn is refused."""

from pathlib import Path
import shutil

from dataset import read_split, split_files
import pytest


@pytest.mark.parametrize("labels", [bytes(100), bytes([10] * 200)], ids=["too few", "above 9"])
def test_labels_that_do_not_fit_the_images_are_refused(labels: bytes, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "other")
    split_files(tmp_path / "other", "t10k")[1].write_bytes(bytes(8) + labels)
    with pytest.raises(SystemExit, match="t10k-images-idx3-ubyte: not 28x28 images with labels from 0 to 9"):
        read_split(tmp_path / "other", "t10k")

"""A dataset that the network cannot learn is refused, with the file that is wrong."""

from pathlib import Path
import shutil

from dataset import read_split, split_files
import numpy as np
from project import idx
import pytest

IMAGES, LABELS = 0, 1


NO_IDX = "not an IDX file of bytes"
FAULTS = {
    "images of another size": (IMAGES, idx(np.zeros((200, 14, 56), np.uint8)), r"of shape \(200, 14, 56\), not images"),
    "of floats": (IMAGES, idx(np.zeros((200, 28, 7), ">f4"), kind=13), NO_IDX),
    "no images": (IMAGES, idx(np.zeros((0, 28, 28), np.uint8)), r"of shape \(0, 28, 28\)"),
    "fewer images than the header says": (
        IMAGES,
        idx(np.zeros((200, 28, 28), np.uint8))[:-1],
        NO_IDX,
    ),
    "more": (IMAGES, idx(np.zeros((200, 28, 28), np.uint8)) + b"\0", NO_IDX),
    "labels in place of images": (IMAGES, idx(np.zeros(200, np.uint8)), NO_IDX),
    "an empty file": (IMAGES, b"", NO_IDX),
    "five bytes": (IMAGES, b"\0\0\x08\x03\0", NO_IDX),
    "half a header": (IMAGES, b"\0\0\x08\x03\0\0\0", NO_IDX),
    "a page": (LABELS, b"<!DOCTYPE html>", NO_IDX),
    "too few labels": (LABELS, idx(np.zeros(100, np.uint8)), "not a label from 0 to 9 for each of the 200 images"),
    "labels above 9": (LABELS, idx(np.full(200, 10, np.uint8)), "not a label from 0 to 9"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_what_its_name_says_is_refused(fault: str, dataset: Path, tmp_path: Path) -> None:
    which, content, reason = FAULTS[fault]
    shutil.copytree(dataset, tmp_path / "other")
    file = split_files(tmp_path / "other", "t10k")[which]
    file.write_bytes(content)
    with pytest.raises(SystemExit, match=rf"{file.name}: .*{reason}.*see docs/dataset.md"):
        read_split(tmp_path / "other", "t10k")

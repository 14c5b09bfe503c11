"""A split of a dataset of the MNIST family, as tensors."""

from math import prod
from pathlib import Path
import sys
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Split = Literal["train", "t10k"]  # t10k: the test split
HELP = "see docs/dataset.md"


def split_files(dataset: Path, split: Split) -> tuple[Path, Path]:
    """The image file and the label file of `split`, in torchvision's layout and the IDX format."""
    return dataset / "raw" / f"{split}-images-idx3-ubyte", dataset / "raw" / f"{split}-labels-idx1-ubyte"


def read_split(dataset: Path, split: Split) -> tuple[Tensor, Tensor]:
    """Images as uint8 [N, 1, 28, 28], from 0 for black to 255 for white, and labels as int64 [N]."""
    image_file, label_file = split_files(dataset, split)
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if images.shape != (len(images), 28, 28) or not len(images):
        sys.exit(f"{image_file}: of shape {images.shape}, not images of 28x28 pixels; {HELP}")
    if labels.shape != (len(images),) or labels.max() > 9:
        sys.exit(f"{label_file}: not a label from 0 to 9 for each of the {len(images)} images; {HELP}")
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels).long()


def read_idx(file: Path, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file, after its header of big-endian words: 2048 + dimensions, and the sizes."""
    words = np.fromfile(file, ">u4", count=1 + dimensions).tolist()
    data = np.fromfile(file, np.uint8, offset=4 * len(words))
    if words[:1] != [2048 + dimensions] or len(words) <= dimensions or len(data) != prod(words[1:]):
        sys.exit(f"{file}: not an IDX file of bytes in {dimensions} dimensions, or not all of it; {HELP}")
    return data.reshape(words[1:])


def to_floats(images: Tensor) -> Tensor:
    """Images as the networks take them: float32 from 0 to 1, equal to torchvision's `ToTensor`."""
    return images / 255

"""A split of a dataset of the MNIST family, as tensors."""

from pathlib import Path
import sys
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Split = Literal["train", "t10k"]


def split_files(dataset: Path, split: Split) -> tuple[Path, Path]:
    """The image file and the label file of `split`, in torchvision's layout and the IDX format."""
    return dataset / "raw" / f"{split}-images-idx3-ubyte", dataset / "raw" / f"{split}-labels-idx1-ubyte"


def read_split(dataset: Path, split: Split) -> tuple[Tensor, Tensor]:
    """Images as uint8 [N, 1, 28, 28], from 0 for black to 255 for white, and labels as int64 [N]."""
    image_file, label_file = split_files(dataset, split)
    images = np.fromfile(image_file, np.uint8, offset=16)
    labels = np.fromfile(label_file, np.uint8, offset=8)
    if len(images) != 28 * 28 * len(labels) or labels.max(initial=0) > 9:
        sys.exit(f"{image_file}: not 28x28 images with labels from 0 to 9 beside it; run `dvc repro download`")
    return torch.from_numpy(images).view(-1, 1, 28, 28), torch.from_numpy(labels).long()


def to_floats(images: Tensor) -> Tensor:
    """Images as the networks take them: float32 from 0 to 1, equal to torchvision's `ToTensor`."""
    return images / 255

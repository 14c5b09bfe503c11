"""Values with which the tiny dataset is learned in a moment."""

from pathlib import Path

from compute import Compute
from infer import Infer, Labels
from model import Model
from project import PARAMS
from train import Train, train

TRAIN = Train(**(PARAMS["train"] | {"seed": 0, "epochs": 2, "learning_rate": 0.1}))
MODEL = Model(network="mlp", hidden_size=32, width=4, blocks=1)
COMPUTE = Compute(device="cpu", threads=1, kernels="native")
INFER = Infer(test_time_flip=False, test_time_shift=0)
LABELS = Labels(classes=[f"class {label}" for label in range(10)])


def trained(
    dataset: Path, folder: Path, values: Train = TRAIN, model: Model = MODEL, compute: Compute = COMPUTE
) -> dict[str, bytes]:
    """Train in `folder`; returns every file that is there afterwards."""
    names = ("model.pth", "curves.csv", "training.json", "checkpoint")
    train(dataset, *(folder / name for name in names), train=values, model=model, compute=compute)
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

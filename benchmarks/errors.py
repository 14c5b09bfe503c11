"""Prints which of the images held out model.pth answers wrongly, and whether anything could answer them; draws them.

dvc exp run $(cat recipes/best) -S train.validation_size=10000 --single-item train
python benchmarks/errors.py
"""

from collections import Counter
from pathlib import Path
import sys

sys.path.insert(1, str(Path(__file__).parent.parent / "stages"))

from answer import answer
import cyclopts
from dataset import read_split
from dvc.api import params_show
from evaluate import draw_answers
import torch

SHEET = Path("errors.png")


def errors(*, count: int = 60) -> None:
    """Print the errors by pairs of classes and by the class of the nearest training image; draw `count` of them."""
    params = params_show()
    names, held_out = params["labels"]["classes"], params["train"]["validation_size"]
    if not held_out:
        sys.exit("errors: train.validation_size is 0; train a model with images held out: see the top of this file")
    images, labels = read_split(Path("data/FashionMNIST"), "train")
    trained, unseen = images[:-held_out], images[-held_out:]
    known, actual = labels[:-held_out], labels[-held_out:]
    logits = answer(unseen)
    guesses = logits.argmax(1)
    wrong = (guesses != actual).nonzero()[:, 0]
    pairs = Counter(" and ".join(sorted((names[actual[one]], names[guesses[one]]))) for one in wrong.tolist())
    print("| taken for each other | errors |\n|---|---|")
    for pair, number in pairs.most_common(8):
        print(f"| {pair} | {number} |")
    print(f"| all | {len(wrong)} |")
    pixels = trained.flatten(1).float()
    nearest = torch.cat([torch.cdist(part.flatten(1).float(), pixels).argmin(1) for part in unseen.split(500)])
    label = known[nearest]
    print(f"The nearest training image has the predicted class for {(label == guesses)[wrong].sum()} of the errors,")
    print(f"and the actual class for {(label == actual)[wrong].sum()}.")
    same = (unseen == trained[nearest]).flatten(1).all(1)
    other = same & (label != actual)
    print(f"Of {held_out} images, {same.sum()} are also training images, {other.sum()} of these with another label.")
    drawn = wrong[torch.randperm(len(wrong), generator=torch.Generator().manual_seed(0))[:count]]
    draw_answers(SHEET, unseen[drawn], names, actual[drawn], logits[drawn])
    print(f"Drew {len(drawn)} of the errors into {SHEET}")


if __name__ == "__main__":
    cyclopts.run(errors)

"""model.pth, metrics.json, classes.csv, stages/model-card.md → model.onnx, model.onnx.md."""

import csv
from dataclasses import asdict
import json
from pathlib import Path
import re
from string import Template
import sys
from typing import Any

from command import run
from compute import Compute
from dataset import to_floats
from files import write
from infer import Infer, Labels, load, views
from model import Model
import onnx_ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
import torch
from torch import Tensor, nn
from train import Train

VERSION = torch.__version__.partition("+")[0]  # without how PyTorch was built
MEANING = {
    "input": "images: uint8 [N, 28, 28], from 0 for black to 255 for white; a bright garment that fills a black square",
    "output": "probabilities: float32 [N, 10], of the classes in their order",
}


def export(
    model_file: Path,
    metrics_file: Path,
    classes_file: Path,
    template_file: Path,
    onnx_file: Path,
    card_file: Path,
    /,
    *,
    train: Train,
    infer: Infer,
    labels: Labels,
    model: Model,
    compute: Compute,
) -> None:
    """Write the model as one file that needs no other, and its model card."""
    if onnx_file.suffix != ".onnx":
        sys.exit(f"export.formats: {onnx_file.suffix[1:]} is not known; onnx is")
    network = load(model_file, model)
    count = sum(weights.numel() for weights in network.parameters())
    if count * 4 > 2**31 - 2**20:
        sys.exit(f"{model.network}: {count:,} weights are more than the 2 GiB that an ONNX file holds")
    metrics = json.loads(metrics_file.read_text())
    sections = {"train": train, "infer": infer, "model": model, "compute": compute}
    values = {name: asdict(section) for name, section in sections.items()}
    with classes_file.open(encoding="utf-8") as file:
        classes = list(csv.reader(file))
    rows = [[f"{name}.{key}", json.dumps(value)] for name, section in values.items() for key, value in section.items()]
    words = {
        "file": onnx_file.name,
        "network": model.network,
        "weights": f"{count:,}",
        "classes": ", ".join(map(escape, labels.classes)),
        "table": markdown(classes),
        "values": markdown([["value", ""], *rows]),
        "torch": VERSION,
    }
    card = fill(template_file, metrics | words)
    known = {"classes": labels.classes, "metrics": metrics, "values": values}
    metadata = MEANING | {key: json.dumps(value) for key, value in known.items()}
    write(onnx_file, to_onnx(Classifier(network, infer), metadata))
    write(card_file, card.encode())
    print(f"Wrote {onnx_file} and {card_file}")


def fill(template: Path, words: dict[str, Any]) -> str:
    """The text of the template with the words in the places of $their_names."""
    try:
        return Template(template.read_text(encoding="utf-8")).substitute(words)
    except KeyError as error:
        sys.exit(f"{template}: {error} is not one of ${', $'.join(words)}")
    except ValueError as error:
        sys.exit(f"{template}: {error}; write $$ for a dollar sign, in UTF-8")


def markdown(rows: list[list[str]]) -> str:
    """A table of Markdown; the first row is its head."""
    lines = [f"| {' | '.join(map(escape, row))} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def escape(text: str) -> str:
    """The text as Markdown shows it as it is."""
    return re.sub(r"([\\|<*`~&[\]]|\b_|_\b)", r"\\\1", text)  # an _ within a word is one


class Classifier(nn.Module):
    """What is exported: uint8 images [N, 28, 28] to the probabilities [N, 10] that `evaluate` finds."""

    def __init__(self, network: nn.Module, infer: Infer) -> None:
        super().__init__()
        self.network = network
        self.infer = infer

    def forward(self, images: Tensor) -> Tensor:
        seen = views(images[:, None], self.infer)
        logits = self.network(to_floats(torch.cat(seen)))
        return logits.unflatten(0, (len(seen), -1)).mean(0).softmax(1)


def to_onnx(classifier: nn.Module, metadata: dict[str, str]) -> bytes:
    """The classifier in the ONNX format, without what differs between machines, as the folder of the code."""
    example = torch.zeros(2, 28, 28, dtype=torch.uint8)
    program = torch.onnx.export(
        classifier.eval(),
        (example,),
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes=({0: "N"},),
        verbose=False,
    )
    assert program
    exported = program.model
    ClearMetadataAndDocStringPass()(exported)
    exported.producer_version = VERSION
    exported.metadata_props.update(metadata)
    return onnx_ir.to_proto(exported).SerializeToString(deterministic=True)


if __name__ == "__main__":
    run(export)

"""Draws the accuracies measured on images held out against the time of training, as lines over the number of epochs."""

import csv
from pathlib import Path

from report import CHART
from vl_convert import vegalite_to_svg

EPOCHS = "train.epochs="


def draw(results: Path) -> None:
    """accuracy.csv → accuracy.svg: the last row of each run of a recipe with other epochs, and of other networks."""
    with results.open() as file:
        last = {row["run"]: row for row in csv.DictReader(file) if row["split"] == "held out"}
    points = []
    for run, row in last.items():
        words = run.split()
        line = [word for word in words if not word.startswith(EPOCHS)]
        epochs = [word.removeprefix(EPOCHS) for word in words if word.startswith(EPOCHS)]
        if epochs and all(word.startswith("model.") for word in line[1:]):
            points.append(row | {"line": " ".join(line), "epochs": "".join(epochs)})
    seconds = {
        "field": "seconds",
        "type": "quantitative",
        "title": "seconds of training on two cores (numbers: epochs)",
    }
    accuracy = {"field": "accuracy", "type": "quantitative", "title": "accuracy on images held out"}
    chart = {
        "data": {"values": points},
        "width": 640,
        "height": 360,
        "encoding": {
            "x": seconds | {"scale": {"type": "log", "nice": False, "padding": 20}},
            "y": accuracy | {"scale": {"zero": False}},
            "color": {"field": "line", "type": "nominal", "legend": {"labelLimit": 0}},
            "text": {"field": "epochs"},
        },
        "layer": [{"mark": {"type": "line", "point": True}}, {"mark": {"type": "text", "dy": -12}}],
    }
    results.with_suffix(".svg").write_text(vegalite_to_svg(chart, config=CHART | {"background": "white"}))

"""Draws the accuracies measured on images held out against the time of training, as lines over the number of epochs."""

import csv
from pathlib import Path

from vl_convert import vegalite_to_svg


def draw(results: Path) -> None:
    """accuracy.csv → accuracy.svg: the last row of each run with two threads, named by its epochs."""
    with results.open() as file:
        last = {row["run"]: row for row in csv.DictReader(file) if row["split"] == "held out"}
    points = []
    for run, row in last.items():
        if "compute.threads" not in run:
            words = run.split()
            line = " ".join(word for word in words if not word.startswith("train.epochs="))
            points.append(row | {"line": line, "epochs": run.removeprefix(line).removeprefix(" train.epochs=")})
    axis = {"type": "quantitative", "axis": {"gridColor": "#ddd"}}
    chart = {
        "background": "white",
        "data": {"values": points},
        "width": 640,
        "height": 360,
        "encoding": {
            "x": axis
            | {
                "field": "seconds",
                "scale": {"type": "log", "nice": False, "padding": 20},
                "title": "seconds of training on two cores",
            },
            "y": axis | {"field": "accuracy", "scale": {"zero": False}, "title": "accuracy on images held out"},
            "color": {"field": "line", "type": "nominal", "legend": {"orient": "bottom", "title": None}},
            "text": {"field": "epochs"},
        },
        "layer": [{"mark": {"type": "line", "point": True}}, {"mark": {"type": "text", "dy": -12}}],
    }
    results.with_suffix(".svg").write_text(vegalite_to_svg(chart))

"""accuracy.csv → accuracy.svg: what was tried, accuracy against time."""

import csv
from pathlib import Path

from vl_convert import vegalite_to_svg

RESULTS = Path(__file__).with_name("accuracy.csv")


def draw() -> str:
    """The last row of each run with two threads as a point; runs below 0.9 are left out."""
    with RESULTS.open() as file:
        rows = {(row["run"], row["split"]): row | {"accuracy": float(row["accuracy"])} for row in csv.DictReader(file)}
    shown = [row for row in rows.values() if row["accuracy"] > 0.9 and "threads" not in row["run"]]
    chart = {
        "data": {"values": shown},
        "width": 760,
        "height": 420,
        "encoding": {
            "x": {"field": "seconds", "type": "quantitative", "scale": {"type": "log"}, "title": "seconds of a run"},
            "y": {"field": "accuracy", "type": "quantitative", "scale": {"zero": False}},
            "color": {"field": "split", "type": "nominal", "title": None, "legend": {"orient": "bottom"}},
            "text": {"field": "run"},
        },
        "layer": [{"mark": {"type": "point", "filled": True, "size": 60}}, {"mark": {"type": "text", "dy": -10}}],
    }
    return vegalite_to_svg(chart)


if __name__ == "__main__":
    RESULTS.with_suffix(".svg").write_text(draw())

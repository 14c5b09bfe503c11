"""accuracy.csv → accuracy.svg: what each recipe and what was tried reach, against the time they take."""

import csv
from pathlib import Path
from typing import Any

from vl_convert import vegalite_to_svg


def main() -> None:
    """Draw the last row of each run in accuracy.csv."""
    with Path(__file__).with_name("accuracy.csv").open() as file:
        rows = {(row["run"], row["split"]): row for row in csv.DictReader(file)}
    x = {"field": "seconds", "type": "quantitative", "scale": {"type": "log"}, "title": "time of the run in seconds"}
    y = {"field": "accuracy", "type": "quantitative", "scale": {"domain": [0.9, 0.96], "clamp": True}}
    color = {"field": "split", "type": "nominal", "title": None, "legend": {"orient": "bottom"}}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "point", "filled": True, "size": 60}},
        {"mark": {"type": "text", "align": "left", "dx": 6, "dy": -6}, "encoding": {"text": {"field": "run"}}},
    ]
    chart = {
        "data": {"values": list(rows.values())},
        "width": 700,
        "height": 360,
        "encoding": {"x": x, "y": y, "color": color},
        "layer": layers,
    }
    Path(__file__).with_name("accuracy.svg").write_text(vegalite_to_svg(chart))


if __name__ == "__main__":
    main()

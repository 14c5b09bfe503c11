"""Draws report.html: the workspace's metrics, plots, pictures and values beside those of another commit, in one file.

python tools/report.py main
"""

import base64
import json
from pathlib import Path
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

import cyclopts
from jinja2 import Environment, FileSystemLoader, StrictUndefined
import vl_convert

CHART = {
    "background": "transparent",
    "axis": {"gridColor": "#8885", "labelFontSize": 12, "titleFontSize": 12},
    "header": {"labelFontSize": 12, "title": None},
    "legend": {"labelFontSize": 12, "layout": {"bottom": {"direction": "vertical"}}, "orient": "bottom", "title": None},
}
CAPTIONS = {
    "mistakes.png": "The most confident mistakes on the test split",
    "predictions.png": "The pictures in data/pictures, each beside what the network sees of it",
}
LEFT_OUT = "Left out, because only another cache has it (`dvc fetch --all-commits` brings what the remote has):"


def report(base: str = "main", /) -> None:
    """Write report.html, which compares the workspace with the commit `base`."""
    with TemporaryDirectory() as folder:
        plots = dvc("plots", "diff", base, "--out", folder)
        drawn = [(name, plot["revisions"][0], draw(plot)) for name, parts in plots["data"].items() for plot in parts]
    missing = sorted({f"{error['source']} of {error['rev']}" for error in plots.get("errors", [])})
    left_out = f"{LEFT_OUT} {', '.join(missing)}" if missing else ""
    if left_out:
        print(f"report: {left_out}", file=sys.stderr)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = templates.get_template("report.html").render(
        base=base,
        captions=CAPTIONS,
        left_out=left_out,
        commit=subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip(),
        metrics=dvc("metrics", "diff", base, "--all"),
        values=dvc("params", "diff", base, "--all"),
        # A chart without values shows nothing, for example when no images are held out.
        charts=[
            part for name, revision, part in drawn if part.startswith("<svg") and "values from Infinity" not in part
        ],
        pictures=[(name, revision, part) for name, revision, part in drawn if part.startswith("data:")],
    )
    Path("report.html").write_text(page)
    print(f"Wrote {Path('report.html').absolute()}")


def dvc(*command: str) -> dict[str, Any]:
    """What the command prints with --json."""
    done = subprocess.run(["dvc", *command, "--json"], stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"report: `dvc {' '.join(command)}` failed, see above")
    return json.loads(done.stdout)


def draw(plot: dict[str, Any]) -> str:
    """A plot of DVC's as SVG, and a picture as a data URL."""
    if plot["type"] == "image":
        return "data:image/png;base64," + base64.b64encode(Path(plot["url"]).read_bytes()).decode()
    return vl_convert.vegalite_to_svg(plot["content"], config=CHART)


if __name__ == "__main__":
    cyclopts.run(report)

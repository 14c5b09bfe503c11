"""Draws report.html: the workspace's metrics, plots, pictures and values beside those of another commit, in one file.

python tools/report.py main
"""

import ast
import base64
from contextlib import suppress
import csv
import json
import os
from pathlib import Path
import re
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

import cyclopts
from dvc.api import read
from dvc.exceptions import DvcException
from dvc.repo import Repo
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy.stats import binomtest
import vl_convert

DVC = Path(sys.executable).with_name("dvc")
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
ARROWS = {"accuracy": "↑", "loss": "↓", "error": "↓"}  # which direction is better, by the end of the metric's name
LEFT_OUT = "Left out, because only another cache has it (`dvc fetch --all-commits` brings what the remote has):"


def report(base: str = "main", /) -> None:
    """Write report.html, which compares the workspace with the commit `base`."""
    os.chdir(Path(__file__).parent.parent)
    metrics = compare(dvc("metrics", "diff", base, "--all"))
    values = compare(dvc("params", "diff", base, "--all"))
    results = ("dvc.lock", "metrics.json", "params.yaml", "pyproject.toml")
    commit = Repo().scm.resolve_rev(base)  # as DVC does, also where only origin has the branch
    same = not subprocess.run(["git", "diff", "--quiet", commit, "--", *results]).returncode
    with TemporaryDirectory() as folder:
        plots = dvc("plots", *(["show"] if same else ["diff", base]), "--out", folder)
        drawn = [(name, plot) for name, parts in plots["data"].items() for plot in parts]
        charts = [adapt(plot["content"]) for _, plot in drawn if plot["type"] == "vega"]
        pictures = [(name, plot["revisions"][0], embed(plot["url"])) for name, plot in drawn if plot["type"] == "image"]
    answers = ""
    if not same:
        with suppress(DvcException):  # only another cache may have them
            new = read_answers(Path("confusion.csv").read_text(encoding="utf-8"))
            old = read_answers(read("confusion.csv", rev=base))
            if [actual for actual, _ in new] == [actual for actual, _ in old]:
                answers = compare_answers(new, old, base)
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
        metrics=metrics,
        values=values,
        same=same,
        answers=answers,
        # A chart may have no values: that of the images held out, where none are.
        charts=[vl_convert.vegalite_to_svg(chart, config=CHART) for chart in charts if chart["data"]["values"]],
        pictures=pictures,
    )
    Path("report.html").write_text(page, encoding="utf-8")
    print(f"Wrote {Path('report.html').absolute()}")


def dvc(*command: str) -> dict[str, Any]:
    """What the command prints with --json."""
    done = subprocess.run([DVC, *command, "--json"], stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"report: `dvc {' '.join(command)}` failed, see above")
    return json.loads(done.stdout)


def compare(files: dict[str, dict[str, dict[str, Any]]]) -> list[tuple[list[str], str, list[str], list[str]]]:
    """For each name, in parts that a line may break between: its arrow, and the lines that show its two values."""
    return [
        (re.split(r"(?<=[._-])", name), arrow(name), show(values.get("new")), show(values.get("old")))
        for _, entries in sorted(files.items())
        for name, values in sorted(entries.items())
    ]


def arrow(metric: str) -> str:
    """Which direction is better; a standard error has none."""
    return "" if metric.endswith("standard_error") else ARROWS.get(metric.split("_")[-1], "")


def show(value: Any) -> list[str]:
    """The value as params.yaml has it, in lines."""
    if isinstance(value, str) and value.startswith("["):  # which DVC makes of a list
        with suppress(SyntaxError, ValueError):  # or it only begins like one
            return [str(each) for each in ast.literal_eval(value)]
    if value is None or isinstance(value, bool):
        return ["none" if value is None else str(value).lower()]
    return [f"{value:.5g}" if isinstance(value, float) else str(value)]


def adapt(chart: dict[str, Any]) -> dict[str, Any]:
    """DVC's chart for a page that may be narrow or dark, and on which nothing is clicked."""
    chart["width"] = 270
    if "facet" in chart:  # the confusion matrix: with its counts, and those of two commits below each other
        chart |= {"facet": chart["facet"]["column"], "columns": 1, "params": [{"name": "showValues", "value": True}]}
        matrix, *_ = chart["spec"]["layer"]
        matrix |= {"width": chart.pop("width"), "height": 270}
        matrix["encoding"]["color"] |= {"scale": {"range": ["#945dd600", "#945dd6"]}, "legend": None}
        chart["spec"]["encoding"]["y"]["title"] = None
        chart["title"] = {"text": f"{chart['title']['text']}: rows are actual", "anchor": "middle"}
    elif "layer" in chart:
        y = chart["layer"][0]["encoding"]["y"]["field"]
        values = chart["data"]["values"] = [row for row in chart["data"]["values"] if row[y] != "nan"]
        drawn = {row.get("field") for row in values}
        if "scale" in (dash := chart["encoding"]["strokeDash"]):  # which names curves that have no values
            dash["scale"]["domain"] = [name for name in dash["scale"]["domain"] if name in drawn]
        if chart["encoding"]["x"]["field"] == "epoch":
            chart["encoding"]["x"]["axis"] = {"tickMinStep": 1, "format": "d"}
    return chart


def compare_answers(new: list[list[str]], old: list[list[str]], base: str) -> str:
    """Whether two models differ by more than chance, from the rows of confusion.csv: actual and predicted class.

    The exact test of McNemar (1947), on the images that one answers rightly and the other one does not.
    """
    pairs = [(here[0] == here[1], there[0] == there[1]) for here, there in zip(new, old, strict=True)]
    gained, lost = pairs.count((True, False)), pairs.count((False, True))
    chance = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    difference = (gained - lost) / len(pairs)
    spread = 1.96 * ((gained + lost) / len(pairs) - difference**2) ** 0.5 / len(pairs) ** 0.5
    low, high = difference - spread, difference + spread
    return (
        f"The accuracy differs by {difference:+.4f} (95 % interval {low:+.4f} to {high:+.4f}): "
        f"{gained} test images are answered rightly only here, {lost} only by {base}. "
        f"That {'could be' if chance > 0.05 else 'is hardly'} chance (p = {chance:.2g}, exact McNemar test)."
    )


def read_answers(text: str) -> list[list[str]]:
    """The rows of confusion.csv."""
    return list(csv.reader(text.splitlines()))[1:]


def embed(picture: str) -> str:
    """A PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(Path(picture).read_bytes()).decode()


if __name__ == "__main__":
    cyclopts.run(report)

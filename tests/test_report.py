"""The report is one file that a browser without a network shows whole, on a desk and a phone, light and dark."""

from collections.abc import Iterator
from contextlib import contextmanager
import math
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright
from project import ROOT, Workspace
import pytest
from report import compare, compare_answers, show

CHROMIUM = shutil.which("google-chrome") or shutil.which("chromium")


@pytest.fixture(scope="module")
def compared(shared: Workspace) -> Path:
    """The report of a workspace with another value, beside main."""
    shared.run("dvc", "exp", "run", "--set-param", "train.momentum=0.5", "--set-param", "predict.top=2")
    below = Workspace(shared.path / "docs")
    assert f"Wrote {shared.path}/report.html" in below.run("python", "../tools/report.py", "main")
    return (shared.path / "report.html").rename(shared.path / "compared.html")  # other tests write another


@contextmanager
def chromium() -> Iterator[Browser]:
    options = ["--disable-background-networking", "--disable-component-update", "--no-first-run", "--no-sandbox"]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=options)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("needs Chrome, or Debian's package chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desk, light", "phone, dark"])
def page(request: pytest.FixtureRequest, browser: Browser, compared: Path) -> Iterator[Page]:
    """The report in a window; whatever the browser complains of or asks for fails the test."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    page = context.new_page()
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url[:200]))
    page.goto(compared.as_uri())
    yield page
    context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [compared.as_uri()]


def test_each_chart_and_picture_is_drawn(page: Page) -> None:
    titles = [
        "Loss",
        "Accuracy on the images held out",
        "Confusion matrix of the test split: rows are actual",
        "F1 of each class of the test split",
        "Confidence and accuracy on the test split",
    ]
    for title, chart in zip(titles, page.locator("svg").all(), strict=True):
        boxes = [mark.bounding_box() for mark in chart.locator(".role-mark path, .role-mark text").all()]
        assert max(box["width"] * box["height"] for box in boxes if box) > 100
        assert {title, "workspace", "main"} <= set(chart.locator("text").all_text_contents())
    sizes = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt])")
    assert all(width > 300 for width, _ in sizes)
    names = ("mistakes.png", "predictions.png")
    assert [alt for _, alt in sizes] == [f"{name} of {commit}" for name in names for commit in ("workspace", "main")]


def test_values_and_metrics_stand_beside_those_of_the_other_commit(page: Page) -> None:
    changed = dict(row.split("\t", 1) for row in page.locator("tr.changed").all_inner_texts())
    assert changed["train.momentum"] == "0.5\t0.9"
    assert changed["predict.top"] == "2\t3"
    assert "train_loss ↓" in changed
    assert "train.epochs" not in changed
    assert "torch==" in page.inner_text("body")
    assert "exact McNemar test" in page.inner_text("body")


def test_the_confusion_matrix_has_its_counts_and_a_curve_that_is_not_there_no_legend(page: Page) -> None:
    matrix, loss = page.locator("svg").nth(2), page.locator("svg").nth(0)
    counts = [int(text) for text in matrix.locator(".role-mark text").all_text_contents() if text.isdigit()]
    assert len(counts) == 2 * 100
    assert sum(counts) == 2 * 200
    assert {"train_loss", "validation_loss"} <= set(loss.locator("text").all_text_contents())
    legends = page.locator(".role-legend text").all_text_contents()
    assert set(legends) == {"workspace", "main", "train_loss", "validation_loss", "accuracy", "confidence"}
    assert {str(epoch) for epoch in range(1, 9)} <= set(loss.locator(".role-axis-label text").all_text_contents())
    assert not [text for text in page.locator("td").all_inner_texts() if text.startswith("[")]


def test_no_name_and_no_number_breaks_within_a_word(page: Page) -> None:
    broken = page.evaluate("""
        [...document.querySelectorAll('td:first-child, tr.changed td')].filter(cell => {
            const range = document.createRange(), walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT)
            for (let node; node = walker.nextNode();) {
                range.selectNodeContents(node)
                if (node.data.trim() && !node.data.includes('/') && range.getClientRects().length > 1) return true
            }
        }).map(cell => cell.textContent)""")
    assert broken == []


@pytest.mark.parametrize(
    ("value", "lines"), [("['a', '[b']", ["a", "[b"]), ("[b", ["[b"]), (True, ["true"]), (1.5, ["1.5"])]
)
def test_a_value_is_shown_as_params_yaml_has_it(value: Any, lines: list[str]) -> None:
    assert show(value) == lines


@pytest.mark.parametrize("name", ["train.epochs", "_hidden", "a__b", "lock-step."])
def test_a_name_keeps_every_letter_where_it_may_break(name: str) -> None:
    [(parts, *_)] = compare({"params.yaml": {name: {"new": 1}}})
    assert "".join(parts) == name


def test_it_fits_the_window_and_its_text_can_be_read(page: Page) -> None:
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [chart.bounding_box() for chart in page.locator("svg").all()]
    assert all(box and box["x"] + box["width"] <= width for box in boxes)
    heights = page.evaluate(
        "[...document.querySelectorAll('svg text')].filter(text => text.textContent)"
        ".map(text => parseFloat(getComputedStyle(text).fontSize))"
    )
    assert min(heights) >= 10
    seen = page.evaluate(
        "[document.querySelector('svg text'), document.querySelector('td')]"
        ".map(element => getComputedStyle(element)).map(style => [style.fill, style.color])"
    )
    dark = width < 400
    assert seen[0][0] == seen[1][1] == ("rgb(255, 255, 255)" if dark else "rgb(0, 0, 0)")


def test_a_chart_without_values_is_left_out(compared: Path, shared: Workspace) -> None:
    shared.run("dvc", "exp", "run", "--set-param", "train.validation_size=0", "train")
    shared.run("python", "tools/report.py", "HEAD")
    page = (shared.path / "report.html").read_text()
    assert "Accuracy on the images held out" in page
    shared.run("git", "commit", "--quiet", "--all", "--message", "Nothing held out")
    with (shared.path / "README.md").open("a") as readme:
        readme.write("Not a result.\n")
    shared.run("python", "tools/report.py", "HEAD")
    page = (shared.path / "report.html").read_text()
    assert "Accuracy on the images held out" not in page
    assert page.count("<svg") == 4
    assert "validation_loss" not in page
    assert "Nothing differs from HEAD." in page
    assert page.count("data:image/png") == 2


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 1), (3, 9), (10, 30), (40, 10), (500, 450)])
def test_whether_a_difference_could_be_chance_is_the_exact_test_of_mcnemar(gained: int, lost: int) -> None:
    right, wrong = ["Bag", "Bag"], ["Bag", "Coat"]
    new = [right] * gained + [wrong] * lost + [right] * 700 + [wrong] * 300
    old = [wrong] * gained + [right] * lost + [right] * 700 + [wrong] * 300
    discordant = gained + lost
    tail = sum(math.comb(discordant, k) for k in range(min(gained, lost) + 1)) / 2**discordant
    chance = min(1.0, 2 * tail)
    said = compare_answers(new, old, "main")
    assert f"(p = {chance:.2g}, exact McNemar test)" in said
    assert f"differs by {(gained - lost) / len(new):+.4f} " in said
    assert f"{gained} test images are answered rightly only here, {lost} only by main" in said
    assert ("could be chance" in said) is (chance > 0.05)


def test_the_interval_is_that_of_the_mean_of_the_paired_differences() -> None:
    differences = np.array([1] * 40 + [-1] * 10 + [0] * 950)
    new = [["Bag", "Bag" if each == 1 else "Coat"] for each in differences]
    old = [["Bag", "Bag" if each == -1 else "Coat"] for each in differences]
    spread = 1.96 * differences.std() / len(differences) ** 0.5
    expected = f"interval {differences.mean() - spread:+.4f} to {differences.mean() + spread:+.4f})"
    assert expected in compare_answers(new, old, "main")


def test_another_picture_is_a_difference(workspace: Workspace) -> None:
    pictures = workspace.path / "data" / "pictures"
    shutil.copy(pictures / "bag.png", pictures / "other.png")
    workspace.run("dvc", "repro")
    workspace.add_origin()
    workspace.run("git", "branch", "--move", "other")  # as in a clone of that branch
    assert "fatal" not in workspace.run("python", "tools/report.py", "main")
    page = (workspace.path / "report.html").read_text()
    assert "Nothing differs" not in page
    assert page.count("data:image/png") == 4


def test_a_commit_that_is_not_there_is_an_error(compared: Path, shared: Workspace) -> None:
    printed = shared.run("python", "tools/report.py", "nowhere", ok=False)
    assert "nowhere" in printed
    assert "report: `dvc metrics diff nowhere" in printed


if __name__ == "__main__":  # after `make report`, with PYTHONPATH=tools: draws the picture in the README
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1220, "height": 780})
        page.goto((ROOT / "report.html").as_uri())
        page.screenshot(path=ROOT / "docs" / "report.png")

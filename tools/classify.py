"""Prints the most likely classes of pictures anywhere, without dataset and pipeline.

python tools/classify.py model.pth PICTURE…
"""

from contextlib import redirect_stdout
from json import dumps
from pathlib import Path
import re
from signal import SIG_DFL, SIGPIPE, signal
import sys
from typing import Annotated, Any

sys.path.insert(1, str(Path(__file__).parent.parent / "stages"))

from command import run  # which says what to do where the packages are missing, and so comes before them
from compute import Compute, place, set_up
from cyclopts import Parameter
from cyclopts.config import Dict
from cyclopts.help import DefaultFormatter, HelpPanel
from infer import Infer, Labels, average_logits, load
from model import Model
from pictures import find_pictures, read_pictures
from predict import Top, describe, rank_classes, to_tensor
from ruamel.yaml import YAML, YAMLError

PARAMS = Path(__file__).parent.parent / "params.yaml"
SECTIONS = ("predict", "infer", "labels", "model", "compute")  # what the options are filled from


def classify(
    model_file: Annotated[Path, Parameter(required=True, help="the weights, as `train` writes them")],
    /,
    *pictures: Annotated[Path, Parameter(help="files, or folders of them and their subfolders")],
    json: Annotated[bool, Parameter(help="print a line of JSON for each picture, for a program", negative="")] = False,
    top: Top,
    infer: Infer,
    labels: Labels,
    model: Model,
    compute: Compute,
) -> None:
    """Print the most likely classes of pictures.

    Options that are not given are as in params.yaml. A picture that cannot be read is named at the end, with status 1.
    """
    with redirect_stdout(sys.stderr):  # a program may read what is printed
        device = set_up(compute)
    files = [file for path in pictures for file in (find_pictures(path) if path.is_dir() else [path])]
    if not files:
        sys.exit(f"classify: no pictures; name files, or folders with pictures in them, after {model_file}")
    read, errors = read_pictures(files)
    if read:
        network = place(load(model_file, model), compute, device)
        logits = average_logits(network, to_tensor(read.values()).to(device), infer)
        rankings = rank_classes(logits, labels.classes, top)
        for (file, (_, warning)), ranking in zip(read.items(), rankings, strict=True):
            answers = [{"class": guess, "probability": round(share, 4)} for guess, share in ranking]
            row = {"file": str(file), "classes": answers, "warning": warning}
            print(dumps(row) if json else describe(file, ranking, warning))
    sys.exit("\n".join(errors) or None)


class Help(DefaultFormatter):
    """Describes each option by its comment in params.yaml."""

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        comments = dict(re.findall(r"^  (\w+):.*?  # (.+)", PARAMS.read_text(encoding="utf-8"), re.MULTILINE))
        entries = [
            entry.copy(description=comments.get(name.removeprefix("--"), entry.description))
            for entry in panel.entries
            for name in entry.names[:1] or [""]
        ]
        super().__call__(console, options, panel.copy(entries=entries))


def main() -> None:
    """Run `classify` with the command line, and the values of params.yaml for what is left out there."""
    try:
        params = YAML(typ="safe").load(PARAMS.read_bytes())
    except (OSError, YAMLError) as error:
        sys.exit(f"classify: {PARAMS}: {' '.join(str(error).split())}")
    values = [Dict(params or {}, root_keys=[name], allow_unknown=True, use_commands_as_keys=False) for name in SECTIONS]
    run(classify, required=False, config=values, help_formatter=Help())


if __name__ == "__main__":
    signal(SIGPIPE, SIG_DFL)  # so that `| head` ends it without a word
    main()

"""Runs a stage's function as a command: its signature is the command line that dvc.yaml writes."""

import atexit
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, Token
from cyclopts.config import Yaml
from cyclopts.exceptions import UnusedCliTokensError
from cyclopts.validators import Number

PARAMS = Path(__file__).parent.parent / "params.yaml"
SECTIONS = ("predict", "infer", "labels", "model", "compute")  # what people's commands take from it


def _whole(_: type, tokens: Sequence[Token]) -> int:
    try:
        return int(tokens[0].value)  # cyclopts itself would round 2.5
    except ValueError:
        raise ValueError(f"{tokens[0].value} is not a whole number.") from None


def _ten(_: type, names: list[str]) -> None:
    if len(set(names)) != 10 or len(names) != 10 or not all(names):
        raise ValueError("10 different names are wanted, one a label.")


Classes = Annotated[list[str], Parameter(validator=_ten)]
Count = Annotated[int, Parameter(converter=_whole, validator=Number(gte=1, lte=100_000))]
Size = Annotated[int, Parameter(converter=_whole, validator=Number(gte=1, lte=10_000))]
Width = Annotated[int, Parameter(converter=_whole, validator=Number(gte=2, lte=1024))]
Blocks = Annotated[int, Parameter(converter=_whole, validator=Number(gte=0, lte=100))]
Rank = Annotated[int, Parameter(converter=_whole, validator=Number(gte=1, lte=10))]
Threads = Annotated[int, Parameter(converter=_whole, validator=Number(gte=1, lte=1024))]
NonNegative = Annotated[int, Parameter(converter=_whole, validator=Number(gte=0))]
Pixels = Annotated[int, Parameter(converter=_whole, validator=Number(gte=0, lte=27))]
Seed = Annotated[int, Parameter(converter=_whole, validator=Number(gte=0, lt=2**64))]
Positive = Annotated[float, Parameter(validator=Number(gt=0, lt=float("inf")))]
Fraction = Annotated[float, Parameter(validator=Number(gte=0, lt=1))]


def run(stage: Callable[..., None], *others: Callable[..., None]) -> None:
    """Call `stage` with the arguments of the command line; end with one line and a non-zero status on wrong ones.

    The `others` are run by their names, for people: what they are not given, they take from params.yaml.
    """
    if "DVC_STAGE" in os.environ:
        _end_with_parent()
    # To search PyTorch's modules for garbage costs a stage 0.3 s to 0.9 s, and they live to the end: leave out what is
    # imported, and as Python ends everything, for files are closed by then and the memory goes with the process.
    gc.freeze()
    atexit.register(gc.freeze)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log is up to date while the stage runs
    app = App(default_command=stage, default_parameter=Parameter(name_transform=str), version_flags=())
    sections = [Yaml(PARAMS, root_keys=[name], allow_unknown=True, use_commands_as_keys=False) for name in SECTIONS]
    for other in others:
        app.command(other, config=sections)
    try:
        app(sys.argv[1:], print_error=False, exit_on_error=False)
    except UnusedCliTokensError as error:  # cyclopts names the value alone: name the flag that was given it
        unused = error.unused_tokens or []
        flags = {f"--{name}" for name, kind in stage.__annotations__.items() if kind is bool}
        keys = [key for key, value in pairwise(sys.argv) if key in flags and value in unused]
        wanted = f"{' and '.join(keys)} is true or false" if keys else "a section has keys and values"
        sys.exit(f"{stage.__name__}: {wanted}, not {', '.join(unused)} (see params.yaml)")
    except CycloptsError as error:
        command = error.command_chain or ()  # empty for the stage's own
        hint = "--help and params.yaml" if command else "params.yaml"
        sys.exit(f"{' '.join([stage.__name__, *command])}: {error} (see {hint})")
    except OSError as error:
        sys.exit(f"{stage.__name__}: {error}")


def _end_with_parent() -> None:
    """End this process when its parent ends, DVC or torchrun: killed alone, that would leave it beside the next run."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    # In another session, the parent is not what started this: DVC was gone before this line. But torchrun gives each
    # of its processes a session of its own.
    if os.getsid(parent) != os.getsid(0) and "TORCHELASTIC_RUN_ID" not in os.environ:
        sys.exit("DVC has ended, or `launch.train` started a session of its own, which torchrun alone may do")
    threading.Thread(target=watch, daemon=True).start()

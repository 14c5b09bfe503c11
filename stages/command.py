"""Runs a stage's function as a command: its signature is the command line that dvc.yaml writes."""

import atexit
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
import gc
from io import TextIOWrapper
from itertools import pairwise
from math import isfinite
import os
from pathlib import Path
import sys
import threading
import time
from types import TracebackType
from typing import Any, TypeVar, dataclass_transform

PARENT = os.getppid()  # before imports, which take seconds in which it may end
if Path(sys.argv[0]).absolute().parent == Path(__file__).parent:  # a stage, which calls `run`
    gc.disable()  # until then, because in its imports a search for garbage takes an eighth of the time for nothing


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in a line that Ctrl-C has stopped this process, during its imports too; Python then ends as stopped by it."""
    if kind is KeyboardInterrupt:
        how = "; the same command goes on from what has finished" if "DVC_STAGE" in os.environ else ""
        print(f"{Path(sys.argv[0]).stem}: stopped{how}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _excepthook

try:
    from inputs import begin, check_inputs

    begin()
    from cyclopts import App, CycloptsError, Parameter, Token
    from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError
    from cyclopts.validators import Number
except ModuleNotFoundError as error:  # the first package that a script imports
    sys.exit(f"{error} in {sys.executable}: `. .venv/bin/activate` brings the packages that `make` has set up")

# OpenMP's threads spin while they wait for each other, which hurts when another program needs a processor too: let them
# sleep sooner. OpenMP reads this when PyTorch is imported, so scripts import this module first.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def section(declared: type[T]) -> type[T]:
    """A section of params.yaml as a frozen dataclass: where a function takes one, each field is an option."""
    return Parameter(name="*")(dataclass(frozen=True)(declared))


def number(**bounds: float) -> Parameter:
    """For the annotation of an int or a float: a number within cyclopts' bounds `gte`, `lte`, `gt` and `lt`."""
    return Parameter(converter=_number, validator=Number(**bounds))


def _number(kind: type[float], tokens: Sequence[Token]) -> float:
    with suppress(ValueError):
        value = kind(tokens[0].value)  # cyclopts itself would round 2.5 for an int, and take nan for a float
        if isfinite(value):
            return value
    raise ValueError(f"{tokens[0].value} is not a {'whole ' if kind is int else ''}number.")


def run(function: Callable[..., None], required: bool | None = None, **settings: Any) -> None:
    """Call the function with the arguments of the command line; end with one line and a non-zero status on wrong ones.

    The `settings` are of cyclopts' `App`. With `required=False` a `config` among them supplies what is left out.
    """
    _set_up_process()
    app = App(
        default_command=function,
        default_parameter=Parameter(name_transform=str, required=required),
        version_flags=(),
        suppress_keyboard_interrupt=False,
        result_action="return_none",
        **settings,
    )
    try:
        app(sys.argv[1:], print_error=False, exit_on_error=False)
        check_inputs()
    except UnusedCliTokensError as error:
        sys.exit(f"{function.__name__}: {_unused(app, error.unused_tokens or [])} (see params.yaml)")
    except MissingArgumentError as error:
        hint = "the stages are run by `dvc repro`" if required is None else "see --help"
        sys.exit(f"{function.__name__}: {_missing(function, error) or f'{error} ({hint})'}")
    except CycloptsError as error:
        hint = "params.yaml" if required is None else "--help and params.yaml"
        sys.exit(f"{function.__name__}: {error} (see {hint})")
    except OSError as error:
        sys.exit(f"{function.__name__}: {error}")


def _set_up_process() -> None:
    if "DVC_STAGE" in os.environ:
        _end_with_parent()
    # Searching PyTorch's modules for garbage costs a stage 0.3 s to 0.9 s, and they live to the end: exclude what is
    # imported, and everything when Python ends, because files are closed by then and the memory goes with the process.
    gc.freeze()
    gc.enable()
    atexit.register(gc.freeze)
    if isinstance(sys.stdout, TextIOWrapper):
        # A log is up to date while the stage runs, and no name of a class or a file stops it.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def _unused(app: App, words: list[str]) -> str:
    """What is wrong with words of the command line that no option takes; cyclopts itself names them alone."""
    flags = {name for each in app.assemble_argument_collection() if each.hint is bool for name in each.names}
    if keys := [key for key, value in pairwise(sys.argv) if key in flags and value in words]:
        return f"{' and '.join(keys)} is true or false, not {', '.join(words)}"
    return f"a section has lines of `key: value` (or .dvc/config lacks `parsing`), not {', '.join(words)}"


def _missing(function: Callable[..., None], error: MissingArgumentError) -> str:
    """Which value is missing where, in the words of the files from which DVC makes the command; nothing for a path."""
    assert error.argument
    key = error.argument.name.removeprefix("--")
    found = [name for name, kind in function.__annotations__.items() if key in getattr(kind, "__annotations__", ())]
    if not found:
        return ""
    _, *suggestion = str(error).partition(" Did you mean ")
    parsing = ", or `parsing` from .dvc/config (see `git diff`)" if error.argument.hint is bool else ""
    return f"{found[0]}.{key} is missing from params.yaml{parsing}.{''.join(suggestion)}"


def _end_with_parent() -> None:
    """End this process when its parent, DVC or torchrun, ends; otherwise it would run beside the next run."""

    def watch() -> None:
        while os.getppid() == PARENT:
            time.sleep(0.1)
        os._exit(1)

    # DVC has ended if another process has adopted this one: during the imports, or before them where that process is of
    # another session. But torchrun gives each of its processes a session of its own.
    if os.getppid() != PARENT or (os.getsid(PARENT) != os.getsid(0) and "TORCHELASTIC_RUN_ID" not in os.environ):
        sys.exit("DVC has ended, or `launch.train` started a session of its own, which torchrun alone may do")
    threading.Thread(target=watch, daemon=True).start()

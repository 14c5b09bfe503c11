"""Writes files whole or not at all."""

from collections.abc import Iterable, Mapping
import csv
import io
import json
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write `content` to `path`; a process killed meanwhile, or a full disk, leaves what was there before."""
    partial = path.with_name(path.name + ".tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write `rows`, the first of them the header, as `write` does."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write(path, table.getvalue().encode(errors="backslashreplace"))  # a file's name may be no UTF-8


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write `values`, a line each, as `write` does."""
    write(path, (json.dumps(values, indent=2) + "\n").encode())

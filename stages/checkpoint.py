"""The state of an unfinished training run, kept so that the next run goes on from it."""

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import torch
from files import write


def fingerprint(values: dict[str, Any], data: tuple[Path, ...]) -> bytes:
    """A digest of what the run depends on: its values, the bytes of its data and of its code, Python and PyTorch."""
    modules = (getattr(module, "__file__", None) for module in sys.modules.values())
    code = {Path(file) for file in modules if file and Path(file).parent == Path(__file__).parent}
    digest = hashlib.sha256(repr([sys.version, torch.__version__, sorted(values.items())]).encode())
    for path in [*data, *sorted(code)]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.digest()


def serialized(state: dict[str, Any]) -> bytes:
    """What `torch.save` writes, but that saving to a file would put the file's name into the bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def save(path: Path, run: bytes, state: dict[str, Any]) -> None:
    """Keep `state` for the run with the fingerprint `run`: one digest guards both who it is for and its bytes."""
    payload = serialized(state)
    write(path, hashlib.sha256(run + payload).digest() + payload)


def load(path: Path, run: bytes) -> dict[str, Any] | None:
    """The state kept for the run with the fingerprint `run`; None when there is none, or it is torn."""
    if not path.exists():
        return None
    content = path.read_bytes()
    digest, payload = content[:32], content[32:]
    if hashlib.sha256(run + payload).digest() != digest:
        return None
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)

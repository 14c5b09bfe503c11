"""The state of an unfinished training run, kept so that the next run resumes from it."""

from collections.abc import Iterable
import hashlib
from importlib.metadata import version
import io
from pathlib import Path
import sys
from typing import Any

from files import write
from processes import ranks
import torch
import torch.distributed as dist


def fingerprint(values: Iterable[object], data: Iterable[Path]) -> bytes:
    """A digest of what the run depends on: its values, the bytes of its data and of its code, and the packages."""
    modules = (getattr(module, "__file__", None) for module in sys.modules.values())
    code = {Path(file) for file in modules if file and Path(file).parent == Path(__file__).parent}
    packages = [sys.version, torch.__version__, version("torchvision"), version("numpy")]
    digest = hashlib.sha256(repr([*packages, *values]).encode())
    for path in [*data, *sorted(code)]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def save(file: Path, fingerprint: bytes, parts: list[Any], history: list[dict[str, float]]) -> None:
    """Keep the states of the run's parts, and its results of each epoch.

    Their digest covers the fingerprint, too, so that what another run has saved is refused like what is damaged.
    """
    payload = serialize({"parts": [part.state_dict() for part in parts], "history": history})
    write(file, hashlib.sha256(fingerprint + payload).digest() + payload)


def serialize(state: dict[str, Any]) -> bytes:
    """The bytes of `torch.save`, which in a file would contain the file's name."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def resume(file: Path, fingerprint: bytes, parts: list[Any]) -> list[dict[str, float]]:
    """Load what was saved for the run into its parts; returns its results, which are empty if nothing whole was saved.

    Processes that train together resume from what the first one reads.
    """
    rank, _ = ranks()
    content = file.read_bytes() if rank == 0 and file.exists() else b""
    digest, payload = content[:32], content[32:]
    is_whole = hashlib.sha256(fingerprint + payload).digest() == digest
    states = [torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True) if is_whole else None]
    if dist.is_initialized():
        dist.broadcast_object_list(states)
    if (state := states[0]) is None:
        return []
    for part, saved in zip(parts, state["parts"], strict=True):
        part.load_state_dict(saved)
    return state["history"]

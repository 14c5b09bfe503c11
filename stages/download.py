"""data/FashionMNIST.sha256 → data/FashionMNIST."""

from collections.abc import Iterator
import gzip
import hashlib
from pathlib import Path
import re
import shutil
import signal
import sys
from typing import Annotated
from urllib.parse import urlsplit

from command import number, run, section
from cyclopts import Parameter
import debian
from files import write
import fsspec
from tqdm import tqdm

# HTTP_PROXY counts, and a gzipped file comes as it is, also from a server that calls this its encoding.
HTTP = {"trust_env": True, "auto_decompress": False, "headers": {"Accept-Encoding": "identity"}}


@section
class Download:
    sources: Annotated[list[str], Parameter(allow_leading_hyphen=True)]
    timeout: Annotated[int, number(gte=1, lte=100_000)]


class SourceError(Exception):
    """Why a source does not yield the right bytes."""


def download(manifest: Path, dataset: Path, scratch: Path, /, *, download: Download) -> None:
    """Fetch the files named in `manifest`, in sha256sum's format, from the first source that has the right bytes.

    A source is a folder that holds them gzipped: an fsspec URL, or apt://PACKAGE/FOLDER for one in a Debian package. It
    is given up when a megabyte takes more than `timeout` seconds. Verified files are kept in `scratch` until all are
    there; `dataset` then has torchvision's own layout.
    """
    digests = read_manifest(manifest)
    verified = scratch / "verified"
    for leftover in (verified / "raw").glob("*"):
        if leftover.name not in digests:
            leftover.unlink()
    fsspec.config.conf.setdefault("http", {"client_kwargs": HTTP})
    failures: list[str] = []
    for source in download.sources:
        missing = {name: digest for name, digest in digests.items() if sha256_of(verified / "raw" / name) != digest}
        print(f"Fetching from {source}")
        try:
            for name, content in fetch(source, missing, scratch / "apt", download.timeout):
                write(verified / "raw" / name, content)
                print(f"{name}: {len(content):,} bytes, verified")
            break
        except SourceError as error:
            failures.append(f"{source}: {error}")
            print(f"Skipped: {error}")
    else:
        reasons = "\n  ".join([f"No source yields the files of {manifest}:", *failures])
        sys.exit(f"{reasons}\nAdd one that does to `sources` in params.yaml.")
    shutil.rmtree(dataset, ignore_errors=True)
    verified.rename(dataset)
    shutil.rmtree(scratch)


def read_manifest(manifest: Path) -> dict[str, str]:
    """Name → SHA-256 in hex."""
    text = manifest.read_text(encoding="utf-8", errors="replace")
    lines = [re.fullmatch(r"([0-9a-fA-F]{64}) [ *](\w[\w.-]*)", line) for line in text.splitlines()]
    if not lines or not all(lines):
        sys.exit(f"{manifest}: not the output of `sha256sum FILE …` in UTF-8, lines of a digest and a file name")
    return {line[2]: line[1].lower() for line in lines if line}


def sha256_of(path: Path) -> str | None:
    """The file's SHA-256 in hex; None when there is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def fetch(source: str, files: dict[str, str], scratch: Path, timeout: int) -> Iterator[tuple[str, bytes]]:
    """Each file's name and verified content, of the `files`, name → SHA-256 in hex; raises SourceError."""

    def too_slow(*_: object) -> None:
        raise TimeoutError(f"less than 1 MB in {timeout} s")

    signal.signal(signal.SIGALRM, too_slow)
    try:
        scheme, package, path, *_ = urlsplit(source)
        folder = f"{debian.unpack(package, scratch, timeout)}{path}" if scheme == "apt" else source.rstrip("/")
        for name, digest in files.items():
            content = read(f"{folder}/{name}.gz", timeout)
            if hashlib.sha256(content).hexdigest() != digest:
                raise ValueError(f"{name}.gz has not the SHA-256 that is asked for")
            yield name, content
    except Exception as error:  # each fsspec backend raises its own errors, some with the reason as their cause
        reason = error.__cause__ or error
        raise SourceError(f"{type(reason).__name__}: {' '.join(str(reason).split())}") from error


def read(url: str, timeout: int) -> bytes:
    """The unzipped content at `url`."""
    content = bytearray()
    signal.alarm(timeout)
    try:
        filesystem, path = fsspec.url_to_fs(url)
        size = filesystem.size(path)
        block = 0 if "http" in filesystem.protocol else 2**20  # 0: as one stream, for not every server knows ranges
        with (
            filesystem.open(path, block_size=block) as file,
            gzip.open(file) as unzipped,
            tqdm(total=size, desc=Path(url).name, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while chunk := unzipped.read(2**20):
                content += chunk
                if len(content) > 2**30:
                    raise ValueError("over 1 GB")
                bar.update(file.tell() - bar.n)
                signal.alarm(timeout)
    finally:
        signal.alarm(0)
    return bytes(content)


if __name__ == "__main__":
    run(download)

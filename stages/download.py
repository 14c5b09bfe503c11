"""Sources → data/FashionMNIST: the dataset's files, verified, in torchvision's own layout."""

import gzip
import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
from command import Count, run
from files import write
from tqdm import tqdm

fsspec.config.conf.setdefault("http", {"client_kwargs": {"trust_env": True}})  # take HTTP_PROXY from the environment


class SourceError(Exception):
    """A source that does not yield the right bytes, and why."""


def download(manifest: Path, dataset: Path, scratch: Path, /, *, sources: list[str], timeout: Count) -> None:
    """Fetch the files named in `manifest`, in sha256sum's format, from the first of `sources` that yields them.

    A source is a folder that holds them gzipped: an fsspec URL, or apt://PACKAGE/FOLDER for one in a Debian package.
    It is left for the next when a megabyte takes over `timeout` seconds. Verified files wait in `scratch` for the rest.
    """
    wanted = read_manifest(manifest)
    verified = scratch / "verified"
    for left in (verified / "raw").glob("*"):
        if left.name not in wanted:
            left.unlink()
    failures: list[str] = []
    for source in sources:
        missing = {name: digest for name, digest in wanted.items() if sha256_of(verified / "raw" / name) != digest}
        print(f"Fetching from {source}")
        try:
            for name, content in fetch(source, missing, scratch / "apt", timeout):
                write(verified / "raw" / name, content)
                print(f"{name}: {len(content):,} bytes, verified")
            break
        except SourceError as error:
            failures.append(f"{source}: {error}")
            print(f"Skipped: {error}")
    else:
        reasons = "\n  ".join(failures)
        sys.exit(f"No source yields the dataset:\n  {reasons}\nAdd one that does to `sources` in params.yaml.")
    shutil.rmtree(dataset, ignore_errors=True)
    verified.rename(dataset)
    shutil.rmtree(scratch)


def read_manifest(manifest: Path) -> dict[str, str]:
    """Name → SHA-256 in hex."""
    lines = [line.split() for line in manifest.read_text().splitlines()]
    if not lines or any(len(line) != 2 or len(line[0]) != 64 for line in lines):
        sys.exit(f"{manifest}: not the output of `sha256sum FILE …`, lines of a digest and a file name")
    return {name: digest for digest, name in lines}


def sha256_of(path: Path) -> str | None:
    """The file's SHA-256 in hex; None when there is no file."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(source: str, files: dict[str, str], scratch: Path, timeout: int) -> Iterator[tuple[str, bytes]]:
    """Each file's name and verified content; raises SourceError."""

    def too_slow(*_: object) -> None:
        raise TimeoutError(f"less than 1 MB in {timeout} s")

    signal.signal(signal.SIGALRM, too_slow)
    try:
        url = urlsplit(source)
        folder = f"{unpack(url.netloc, scratch, timeout)}{url.path}" if url.scheme == "apt" else source.rstrip("/")
        for name, digest in files.items():
            content = read(f"{folder}/{name}.gz", timeout)
            if hashlib.sha256(content).hexdigest() != digest:
                raise ValueError(f"{name}.gz holds other bytes than the manifest says")
            yield name, content
    except Exception as error:  # each fsspec backend raises errors of its own, some with the reason behind them
        reason = error.__cause__ or error
        raise SourceError(f"{type(reason).__name__}: {' '.join(str(reason).split())}") from error


def read(url: str, timeout: int) -> bytes:
    """The unzipped content at `url`."""
    content = bytearray()
    signal.alarm(timeout)
    try:
        filesystem, path = fsspec.url_to_fs(url)
        with (
            filesystem.open(path, block_size=2**20) as file,
            gzip.open(file) as unzipped,
            tqdm(
                total=getattr(file, "size", None), unit="B", unit_scale=True, desc=Path(url).name, disable=None
            ) as bar,
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


def unpack(package: str, scratch: Path, timeout: int) -> Path:
    """The root of the unpacked Debian package, fetched without root and without touching the system's lists."""
    if not shutil.which("apt-get"):
        raise OSError("apt-get is not here; it comes with Debian and its kin")
    shutil.rmtree(scratch, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    here = scratch.absolute()
    settings = [
        f"Dir::State::Lists={here}/lists",
        f"Dir::Cache={here}/cache",
        f"Acquire::http::Timeout={timeout}",
        "Acquire::Retries=0",
    ]
    apt = ["apt-get", "-qq", *(f"-o{setting}" for setting in settings)]
    for command in ([*apt, "update"], [*apt, "download", package], ["sh", "-c", "dpkg-deb --extract *.deb root"]):
        command = ["setpriv", "--pdeathsig", "KILL", *command]  # it ends with this process
        done = subprocess.run(command, cwd=here, stderr=subprocess.PIPE, text=True, timeout=30 * timeout)
        if done.returncode:
            raise OSError(f"`{' '.join(command[3:])}` failed: {' '.join(done.stderr.split())}")
    return here / "root"


if __name__ == "__main__":
    run(download)

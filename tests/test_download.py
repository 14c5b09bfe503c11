"""The download stage takes the right bytes from whoever has them, and leaves nothing half done."""

from collections.abc import Iterator
from functools import partial
import gzip
import hashlib
import http.server
import os
from pathlib import Path
import shutil
import subprocess
import sys
import threading

from download import Download, download
import numpy as np
from project import Workspace, ran
import pytest
from servers import Folder
from torchvision.datasets import FashionMNIST

FIRST = "train-images-idx3-ubyte"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves /KIND/FILE from the folder; the reply for the first image file has a fault of that kind."""

    released = threading.Event()

    def do_GET(self) -> None:
        kind, name = self.path.split("/")[-2:]
        content = Path(self.directory, name).read_bytes()
        sent = None
        if name == f"{FIRST}.gz":
            match kind:
                case "missing":
                    return self.send_error(404)
                case "silent":
                    self.released.wait()
                    return None
                case "html":
                    content = b"<!DOCTYPE html><title>Sign in</title>"
                case "corrupt":
                    content = content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]  # of the CRC
                case "other":
                    content = gzip.compress(b"not the images")
                case "truncated":
                    sent = 5000
                case "short":
                    content = content[:5000]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:sent])

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


class Encoded(Handler):
    """Calls gzip an encoding of the file, or adds that encoding where it is asked for, as servers do."""

    def do_GET(self) -> None:
        content = Path(self.directory, Path(self.path).name).read_bytes()
        if "twice" in self.path and "gzip" in self.headers.get("Accept-Encoding", ""):
            content = gzip.compress(content)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if "twice" not in self.path or "gzip" in self.headers.get("Accept-Encoding", ""):
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET


@pytest.fixture(scope="module")
def server(source: Path) -> Iterator[str]:
    Handler.released.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(source))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.released.set()
        server.shutdown()


FAULTS = {
    "missing": "404",
    "silent": "less than 1 MB in 1 s",
    "html": "Not a gzipped file",
    "corrupt": "CRC check failed",
    "other": f"{FIRST}.gz has not the SHA-256 that is asked for",
    "truncated": "ContentLengthError",
    "short": "ended before",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_source_is_named_with_its_reason_and_the_next_one_is_taken(
    kind: str, server: str, manifest: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download(
        manifest,
        tmp_path / "FashionMNIST",
        tmp_path / "scratch",
        download=Download([f"{server}/{kind}", f"{server}/good"], timeout=1 if kind == "silent" else 20),
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.endswith("verified")]
    first, skipped, second = lines
    assert (first, second) == (f"Fetching from {server}/{kind}", f"Fetching from {server}/good")
    assert skipped.startswith("Skipped: ")
    assert FAULTS[kind] in skipped
    for file in (dataset / "raw").iterdir():
        assert (tmp_path / "FashionMNIST" / "raw" / file.name).read_bytes() == file.read_bytes()
    assert not (tmp_path / "scratch").exists()


def test_when_all_sources_fail_each_is_listed_and_no_dataset_appears(
    server: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no apt-get
    sources = [
        f"{server}/html",
        f"file://{tmp_path}/nowhere",
        "http://127.0.0.1:9/closed",
        "gopher://x",
        "apt://package/folder",
    ]
    with pytest.raises(SystemExit) as end:
        download(manifest, tmp_path / "FashionMNIST", tmp_path / "scratch", download=Download(sources, timeout=5))
    assert all(f"\n  {source}: " in str(end.value) for source in sources)
    assert "`sources` in params.yaml" in str(end.value)
    assert not (tmp_path / "FashionMNIST").exists()


def test_a_proxy_in_the_environment_is_used(
    server: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server)
    paths = manifest, tmp_path / "FashionMNIST", tmp_path / "scratch"
    download(*paths, download=Download(["http://mirror.invalid/good"], timeout=5))
    assert (tmp_path / "FashionMNIST").exists()


def test_verified_files_are_not_fetched_again(
    server: str, source: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = manifest, tmp_path / "FashionMNIST", tmp_path / "scratch"
    half = tmp_path / "source"
    half.mkdir()
    for name in ("train-labels-idx1-ubyte.gz", f"{FIRST}.gz"):
        (half / name).symlink_to(source / name)
    with pytest.raises(SystemExit):
        download(*paths, download=Download([half.as_uri()], timeout=5))
    (tmp_path / "scratch" / "verified" / "raw" / "train-labels-idx1-ubyte").write_bytes(b"torn")
    capsys.readouterr()
    download(*paths, download=Download([f"{server}/missing"], timeout=5))
    assert FIRST not in capsys.readouterr().out
    assert len(list((tmp_path / "FashionMNIST" / "raw").iterdir())) == 4


def test_a_debian_package_is_a_source(
    manifest: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not here")
    shutil.copytree(source, tmp_path / "package" / "usr" / "share" / "tiny")
    (tmp_path / "package" / "DEBIAN").mkdir()
    control = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: Test\nDescription: Test\n"
    (tmp_path / "package" / "DEBIAN" / "control").write_text(control)
    subprocess.run(["dpkg-deb", "--build", tmp_path / "package"], check=True)
    (tmp_path / "bin").mkdir()  # the real apt-get needs the network: `make repro` uses it
    calls = tmp_path / "calls"
    script = f"#!/bin/sh\necho $* >> {calls}\ncase $* in *download*) cp {tmp_path}/package.deb .; esac\n"
    (tmp_path / "bin" / "apt-get").write_text(script)
    (tmp_path / "bin" / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    paths = manifest, tmp_path / "FashionMNIST", tmp_path / "scratch"
    download(*paths, download=Download(["apt://tiny/usr/share/tiny"], timeout=5))
    own = {f"-oDir::State::Lists={tmp_path}/scratch/apt/lists", f"-oDir::Cache={tmp_path}/scratch/apt/cache"}
    update, fetch = calls.read_text().splitlines()
    assert own < {*update.split()} & {*fetch.split()}, "which needs no root, and leaves the system's lists as they are"
    assert len(list((tmp_path / "FashionMNIST" / "raw").iterdir())) == 4


@pytest.mark.parametrize("place", ["s3", "ssh"], indirect=True)
def test_a_server_of_the_team_is_a_source(place: Folder, fresh: Workspace, source: Path, tmp_path: Path) -> None:
    """With the settings and keys that the environment gives, as those libraries read them."""
    settings = place.settings(tmp_path)
    workspace = fresh.copy(tmp_path / "clone")
    workspace.environment = place.environment() | {"AWS_ENDPOINT_URL": settings.get("endpointurl", "")}
    upload = "import sys, fsspec; fs, path = fsspec.url_to_fs(sys.argv[2]); fs.put(sys.argv[1], path, recursive=True)"
    workspace.run(sys.executable, "-c", upload, f"{source}/", f"{settings['url']}/")
    workspace.set(download={"sources": [settings["url"]]})
    assert ran(workspace.run("dvc", "repro", "download")) == ["download"]


def test_what_another_manifest_left_is_not_taken(server: str, manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch" / "verified" / "raw").mkdir(parents=True)
    (tmp_path / "scratch" / "verified" / "raw" / "other-images").touch()
    download(
        manifest, tmp_path / "FashionMNIST", tmp_path / "scratch", download=Download([f"{server}/good"], timeout=20)
    )
    assert len(list((tmp_path / "FashionMNIST" / "raw").iterdir())) == 4


def test_torchvision_reads_the_result(manifest: Path, source: Path, tmp_path: Path) -> None:
    download(manifest, tmp_path / "FashionMNIST", tmp_path / "scratch", download=Download([str(source)], timeout=5))
    assert len(FashionMNIST(root=tmp_path, train=True)) == 600
    assert len(FashionMNIST(root=tmp_path, train=False)) == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html>\n",
        b"abc  train-images-idx3-ubyte\n",
        f"{'0' * 64}  images\n".encode("utf-16"),
        b"0" * 64 + b"  ../../images\n",
        b"0" * 64 + b"  /images\n",
        b"0" * 64 + b"  ..\n",
    ],
)
def test_a_broken_manifest_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest").write_bytes(content)
    with pytest.raises(SystemExit, match="manifest: not the output of `sha256sum"):
        download(
            tmp_path / "manifest", tmp_path / "data", tmp_path / "scratch", download=Download(["file:///x"], timeout=5)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["manifest"]


def test_what_sha256sum_reads_is_read(manifest: Path, source: Path, tmp_path: Path) -> None:
    lines = [line.split() for line in manifest.read_text().splitlines()]
    (tmp_path / "manifest").write_text("".join(f"{digest.upper()} *{name}\r\n" for digest, name in lines))
    paths = tmp_path / "manifest", tmp_path / "FashionMNIST", tmp_path / "scratch"
    download(*paths, download=Download([source.as_uri()], timeout=5))
    assert len(list((tmp_path / "FashionMNIST" / "raw").iterdir())) == 4


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of the real dataset's size, which no gzip makes smaller, and its manifest."""
    folder = tmp_path_factory.mktemp("large")
    content = np.random.default_rng(0).bytes(30_000_000)
    (folder / "images.gz").write_bytes(gzip.compress(content, compresslevel=1))
    (folder / "images.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  images\n")
    return folder


@pytest.mark.parametrize(
    ("handler", "path"),
    [(http.server.SimpleHTTPRequestHandler, ""), (Encoded, "/once"), (Encoded, "/twice")],
    ids=["no ranges", "gzip is the encoding", "gzip is an encoding"],
)
def test_a_server_may_know_no_ranges_and_call_gzip_an_encoding(
    handler: type[http.server.SimpleHTTPRequestHandler], path: str, large: Path, tmp_path: Path
) -> None:
    class Quiet(handler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(large))) as server:
        threading.Thread(target=server.serve_forever).start()
        source = f"http://127.0.0.1:{server.server_port}{path}"
        paths = large / "images.sha256", tmp_path / "data", tmp_path / "scratch"
        try:
            download(*paths, download=Download([source], timeout=20))
        finally:
            server.shutdown()
    assert (tmp_path / "data" / "raw" / "images").stat().st_size == 30_000_000


def test_the_manifest_is_one_that_sha256sum_checks(workspace: Workspace) -> None:
    raw = workspace.path / "data" / "FashionMNIST" / "raw"
    printed = workspace.run("sh", "-c", f"cd {raw} && sha256sum --check ../../FashionMNIST.sha256")
    assert printed.count(": OK") == 4

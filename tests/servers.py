"""Where a team can keep its artifacts: a folder, and real servers on loopback, SeaweedFS's S3 and OpenSSH's SFTP."""

import getpass
import json
import os
from pathlib import Path
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time

import psutil
import pytest

BUCKET = "artifacts"
SECRET = secrets.token_hex()


class Folder:
    """The committed default: a folder beside the clones, without a server."""

    nowhere = "/dev/null/store"

    def settings(self, folder: Path) -> dict[str, str]:
        """What the team commits about its remote; `folder` is a new one for this test."""
        return {}

    def secrets(self, key: str = "writer") -> dict[str, str]:
        """What a person who has that key can write into .dvc/config.local."""
        return {}

    def environment(self, key: str = "writer") -> dict[str, str]:
        """The same, as environment variables."""
        return {}


class Server(Folder):
    """A process that listens on loopback and keeps its state in a folder, so that it can die and come back."""

    folder: Path
    port: int
    command: list[str | Path]

    def start(self) -> None:
        with (self.folder / "log").open("wb") as log:
            self.process = psutil.Popen(self.command, cwd=self.folder, stdout=log, stderr=log)
        for _ in range(600):
            if self.is_ready():
                return
            time.sleep(0.05)
        self.kill()
        raise TimeoutError((self.folder / "log").read_text())

    def is_ready(self) -> bool:
        raise NotImplementedError

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server and to the processes that it has started for its clients."""
        for process in (*self.process.children(recursive=True), self.process):
            process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()


class S3(Server):
    """SeaweedFS with one bucket, and two keys: `writer` may do everything in it, `reader` may only read."""

    nowhere = "s3://no-such-bucket/store"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        parts = [
            f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc")
        ]
        ports = dict(zip(parts, free_ports(len(parts)), strict=True))
        settings = ports | {
            "dir": folder,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": folder / "identities.json",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "bucket": BUCKET,
            "master.telemetry": "false",
            "webdav": "false",
            "admin.ui": "false",
        }
        self.folder, self.port, self.ports = folder, ports["s3.port"], list(ports.values())
        self.command = [program("weed"), "mini", *(f"-{name}={value}" for name, value in settings.items())]
        actions = {"writer": ["Admin", "Read", "Write", "List"], "reader": [f"Read:{BUCKET}", f"List:{BUCKET}"]}
        identities = [
            {"name": key, "credentials": [{"accessKey": key + SECRET, "secretKey": SECRET}], "actions": allowed}
            for key, allowed in actions.items()
        ]
        (folder / "identities.json").write_text(json.dumps({"identities": identities}))

    def settings(self, folder: Path) -> dict[str, str]:
        return {"url": f"s3://{BUCKET}/{folder.name}", "endpointurl": f"http://127.0.0.1:{self.port}"}

    def secrets(self, key: str = "writer") -> dict[str, str]:
        return {"access_key_id": key + SECRET, "secret_access_key": SECRET}

    def environment(self, key: str = "writer") -> dict[str, str]:
        return {f"AWS_{name.upper()}": value for name, value in self.secrets(key).items()}

    def kill(self) -> None:
        super().kill()
        for port in self.ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()

    def is_ready(self) -> bool:
        return "All enabled components are running" in (self.folder / "log").read_text()


class SSH(Server):
    """sshd for the user who runs the tests; the key `writer` may do everything, the key `reader` may only read."""

    nowhere = "ssh://127.0.0.1:1/store"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        for name in ("host", "writer", "reader", "stranger"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        public = {name: (folder / f"{name}.pub").read_text() for name in ("writer", "reader")}
        (folder / "authorized_keys").write_text(f'{public["writer"]}command="internal-sftp -R" {public["reader"]}')
        [port] = free_ports(1)
        settings = {
            "ListenAddress": f"127.0.0.1:{port}",
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "authorized_keys",
            "Subsystem": "sftp internal-sftp",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "UsePAM": "no",
            "StrictModes": "no",
            "PidFile": "none",
        }
        (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self.folder, self.port = folder, port
        self.command = [program("sshd"), "-D", "-e", "-f", folder / "config"]

    def settings(self, folder: Path) -> dict[str, str]:
        return {"url": f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{folder}/store"}

    def secrets(self, key: str = "writer") -> dict[str, str]:
        return {"keyfile": str(self.folder / key)}

    def environment(self, key: str = "writer") -> dict[str, str]:
        home = self.folder / f"home-{key}"
        (home / ".ssh").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / key, home / ".ssh" / "id_ed25519")
        return {"HOME": str(home)}

    def is_ready(self) -> bool:
        return "Server listening" in (self.folder / "log").read_text()


def program(name: str) -> str:
    """Its absolute path, which sshd wants to be started by."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    return path or pytest.skip(f"{name} is not here")


def free_ports(count: int) -> list[int]:
    """So many ports of loopback that nobody listens on, below those that the system gives to clients."""
    free = []
    for port in random.sample(range(10_000, 32_000), 100):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) != 0:
                free.append(port)
    return free[:count]

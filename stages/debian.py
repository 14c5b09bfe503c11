"""A Debian package as a folder."""

from pathlib import Path
import shutil
import subprocess


def unpack(package: str, scratch: Path, timeout: int) -> Path:
    """The root of the unpacked Debian package, fetched without root and without touching the system's lists.

    Empties `scratch` first. Each of three commands may take 30 times `timeout` seconds: apt notices no slow download.
    """
    if not shutil.which("apt-get"):
        raise OSError("apt-get is not installed; it comes with Debian and systems made from it")
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
        command = ["setpriv", "--pdeathsig", "KILL", *command]  # so that it ends with this process
        done = subprocess.run(command, cwd=here, stderr=subprocess.PIPE, text=True, timeout=30 * timeout)
        if done.returncode:
            raise OSError(f"`{' '.join(command[3:])}` failed: {' '.join(done.stderr.split())}")
    return here / "root"

"""Loaded by each Python process that has this folder on PYTHONPATH: sends a signal at the moment named in $KILL."""

from fnmatch import fnmatch
import json
import os
import signal
import sys
import time


def arm(stage: str, event: str, path: str, count: int, sent: str, to: str) -> None:
    """In the process of `stage` ("" is DVC's), at the `count`th audit event on a path that ends in the pattern `path`.

    `to` is that process itself, dvc, both, its group, or the number of a server's process, whose children it gets too.
    """
    left = count

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if name != event or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if not fnmatch(os.fsdecode(arguments[0]), f"*{path}"):
            return
        left -= 1
        if left == 0:
            number = signal.Signals[sent]
            if to.isdigit():
                import psutil  # here, for a moment may lie in a stage's imports

                server = psutil.Process(int(to))
                for process in (*server.children(recursive=True), server):
                    process.send_signal(number)
                return
            if to == "group":
                os.killpg(0, number)
            if to in ("dvc", "both"):
                os.kill(os.getppid(), number)
            if to in ("self", "both"):
                os.kill(os.getpid(), number)
            if sent != "SIGSTOP":
                time.sleep(5)  # with DVC gone, this process has to end before it goes on

    if os.environ.get("DVC_STAGE", "") == stage:
        sys.addaudithook(hook)


if "KILL" in os.environ:
    arm(**json.loads(os.environ["KILL"]))

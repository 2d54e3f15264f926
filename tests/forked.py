"""Commands in processes of their own, forked from one that has loaded the libraries.

Loading them takes most of the time of a command that says one sentence. What a process does from
its very start is tested where it is started anew.
"""

import atexit
import importlib
import json
import os
import pkgutil
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VARIES = ("LONGDOC_CACHE", "LONGDOC_DATA", "PYTEST_", "COLUMNS")
"""Variables that nothing reads while it is loaded."""


class Commands:
    """A process that forks one for each command."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from tests import forked; forked.serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.communicate()

    def fits(self, environment: dict[str, str]) -> bool:
        """Say whether what was loaded would be the same with these variables."""
        both = (fixed(environment), fixed(self._environment))
        return both[0] == both[1] and self._process.poll() is None

    def run(
        self,
        arguments: tuple[str, ...],
        cwd: Path,
        environment: dict[str, str],
        said: str,
        seconds: float,
    ) -> subprocess.CompletedProcess:
        """Run ``longdoc`` with arguments and a standard input, as ``subprocess.run`` would.

        Raises:
            subprocess.TimeoutExpired: It took longer; it was killed.
        """
        with tempfile.TemporaryDirectory() as folder:
            streams = [str(Path(folder, name)) for name in ("in", "out", "err")]
            Path(streams[0]).write_text(said, encoding="utf-8")
            request = {
                "arguments": arguments, "cwd": str(cwd), "environment": environment,
                "streams": streams,
            }  # fmt: skip
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            child = self._answer()
            if not select.select([self._process.stdout], [], [], seconds)[0]:
                os.kill(child, 9)
                self._answer()
                raise subprocess.TimeoutExpired(["longdoc", *arguments], seconds)
            code = self._answer()
            out, err = (Path(stream).read_text(encoding="utf-8") for stream in streams[1:])
        return subprocess.CompletedProcess(["longdoc", *arguments], code, out, err)

    def _answer(self) -> int:
        # Nothing is read beyond a line (bufsize=0), for select looks at the pipe alone.
        return int(self._process.stdout.readline())


def fixed(environment: dict[str, str]) -> dict[str, str]:
    """Give the variables that do not vary between commands."""
    return {name: value for name, value in environment.items() if not name.startswith(VARIES)}


def serve() -> None:
    """Load everything, then fork a process a command until there are no more."""
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    # That the command line runs, and not a program that imports longdoc, is known by this module.
    command = importlib.import_module("_longdoc_command")
    package = importlib.import_module("longdoc")
    for module in pkgutil.walk_packages(package.__path__, "longdoc."):
        if not module.name.endswith(("__main__", "._native")):
            importlib.import_module(module.name)
    for line in requests:
        request = json.loads(line)
        child = os.fork()
        if not child:
            requests.close()
            replies.close()
            become(request)
            command.main()
            return
        replies.write(f"{child}\n")
        replies.flush()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        replies.write(f"{code}\n")
        replies.flush()


def become(request: dict[str, Any]) -> None:
    """Be the process that was asked for."""
    for place, stream in enumerate(request["streams"]):
        # Both are appended to, as to a pipe: a process of this one has a place of its own in a file.
        kind = os.O_WRONLY | os.O_CREAT | os.O_APPEND if place else os.O_RDONLY
        os.dup2(os.open(stream, kind), place)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["longdoc", *request["arguments"]]

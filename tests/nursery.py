"""Daemons that die at a named step or when a test wants it, one after the other: for the crash tests."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from harness import PATIENCE

TESTS = Path(__file__).parent


class Nursery:
    """Starts daemons by fork (see tests/crashing_daemon.py), one at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "crashing_daemon.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), *filter(None, sys.path)])},
        )
        self._pid: int | None = None

    def start(self, config: Path, step: str = "", occurrence: int = 1) -> int:
        """A daemon that dies when `step` is reached the n-th time; returns its pid."""
        assert self._process.stdin is not None and self._pid is None
        self._process.stdin.write(f"{config}\t{step}\t{occurrence}\n".encode())
        self._process.stdin.flush()
        self._pid = int(self._line())
        return self._pid

    def died(self, patience: float) -> int | None:
        """How the daemon ended (its exit status, or minus the signal); None while it lives."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], patience)[0]:
            return None
        self._pid = None
        return os.waitstatus_to_exitcode(int(self._line()))

    def end(self, number: int) -> int:
        """Signal the daemon and wait for its end."""
        assert self._pid is not None
        with contextlib.suppress(ProcessLookupError):  # it ended by itself: its status tells
            os.kill(self._pid, number)
        status = self.died(PATIENCE)
        assert status is not None, f"the daemon does not end after signal {number}"
        return status

    def clear(self) -> None:
        """End the daemon that a failed test left."""
        if self._pid is not None:
            self.end(signal.SIGKILL)

    def close(self) -> None:
        """No more daemons."""
        self._process.communicate()

    def _line(self) -> bytes:
        # unbuffered, so that select() sees everything that was not yet read
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._process.stdout.fileno(), 1)
            assert byte, "the nursery is gone"
            line += byte
        return line

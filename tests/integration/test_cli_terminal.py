"""What the programs do for terminals, shells and systemd: the live view, completion, the unit."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import PATIENCE, TestSpool

QM = [sys.executable, "-m", "qm.cli.main"]
ON_A_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A pseudo-terminal of 40 lines and 120 columns, with a program on it."""

    def __init__(self, *command: str) -> None:
        self.keyboard, screen = os.openpty()
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.seen = ""
        self.program = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *command],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
        )
        os.close(screen)

    def read_until(self, pattern: str) -> str:
        """Everything that was drawn, as soon as it matches; fails when it never does."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.seen, re.DOTALL):
            ready, _, _ = select.select([self.keyboard], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"waited in vain for {pattern!r} in {self.seen!r}"
            try:
                data = os.read(self.keyboard, 1 << 16)
            except OSError:  # EIO: the program has ended
                data = b""
            assert data, f"ended without {pattern!r}: {self.seen!r}"
            self.seen += data.decode("utf-8", "replace")
        return self.seen


@contextmanager
def on_a_terminal(*command: str) -> Iterator[Terminal]:
    terminal = Terminal(*command)
    try:
        yield terminal
    finally:
        if terminal.program.poll() is None:
            terminal.program.kill()
        terminal.program.wait()
        os.close(terminal.keyboard)


# --- qm status --watch -----------------------------------------------------------------------------------------


def test_watch_draws_the_queue_and_its_changes_until_ctrl_c(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    spool.drop("past", "exit 3")
    spool.wait_for("past")
    spool.drop("runs", f"echo 'step 3 / 4'; until [ -e {spool.root}/go ]; do sleep 0.02; done", info="now")
    spool.wait_running("runs")
    spool.drop("next", "true", info="later")
    with on_a_terminal(*QM, "-c", str(spool.config), "status", "--watch") as terminal:
        terminal.read_until(r"RUNNING.*runs.*running.*━.*now.*WAITING.*next.*later.*ENDED.*past.*exit status 3")
        before = len(terminal.seen)
        (spool.root / "go").touch()
        spool.wait_for("next")
        terminal.read_until(rf".{{{before}}}.*ENDED.*next.*done.*runs.*done")
        os.write(terminal.keyboard, b"\x03")
        assert terminal.program.wait(timeout=PATIENCE) == 0
        assert terminal.read_until(re.escape("\x1b[?1049l")), "the screen is as it was before"
        assert "Traceback" not in terminal.seen


def test_watch_shows_only_the_jobs_that_are_named(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    for name in ("wanted", "other"):
        spool.make(name, "true", where=spool.queue)
    with on_a_terminal(*QM, "-c", str(spool.config), "status", "--watch", "wanted") as terminal:
        assert "other" not in terminal.read_until("WAITING.*wanted.*arriving")
        os.write(terminal.keyboard, b"\x03")
        assert terminal.program.wait(timeout=PATIENCE) == 0
    with on_a_terminal(*QM, "-c", str(spool.config), "status", "--watch", "none") as terminal:
        terminal.read_until("no job has the name or id 'none'")
        assert terminal.program.wait(timeout=PATIENCE) == 66


def test_ctrl_c_ends_a_following_log_quietly_and_the_job_goes_on(spool: TestSpool) -> None:
    spool.drop("runs", f"echo begun; until [ -e {spool.root}/go ]; do sleep 0.02; done")
    spool.wait_running("runs")
    with on_a_terminal(*QM, "-c", str(spool.config), "log", "-f", "runs") as terminal:
        terminal.read_until("begun")
        os.write(terminal.keyboard, b"\x03")
        assert terminal.program.wait(timeout=PATIENCE) == 130
        assert "Traceback" not in terminal.seen
    (spool.root / "go").touch()
    spool.wait_for("runs", spool.done)


# --- completion ------------------------------------------------------------------------------------------------


def completed(spool: TestSpool, line: str) -> set[str]:
    """What a shell is offered for a line, by argcomplete's protocol (answers on descriptor 8)."""
    answer = subprocess.run(
        ["sh", "-c", 'exec "$@" 8>&1 9>/dev/null >/dev/null', "sh", *QM],
        env={
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\013",
            "_ARGCOMPLETE_SHELL": "bash",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line.encode())),
            "QM_CONFIG": str(spool.config),
        },
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return {word.strip() for word in answer.stdout.split("\013") if word.strip()}


def test_the_shell_is_offered_verbs_options_and_the_names_of_jobs(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    for name, where in (("alpha", spool.queue), ("alto", spool.done), ("beta", spool.lost)):
        spool.make(name, "true", where=where)
    assert completed(spool, "qm re") == {"release", "resume", "retry"}
    assert completed(spool, "qm show al") == {"alpha", "alto"}
    assert completed(spool, "qm kill alpha be") == {"beta"}
    assert completed(spool, "qm wait --exi") == {"--exit-status"}


def test_completion_without_a_spool_offers_no_names_and_no_complaint(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool(QM_FOLDER="gone")
    assert completed(spool, "qm show x") == set()
    spool.config.write_text("nonsense")
    assert completed(spool, "qm show x") == set()


# --- the systemd unit ------------------------------------------------------------------------------------------


@pytest.fixture
def unit(make_spool: Callable[..., TestSpool]) -> tuple[TestSpool, str]:
    """A spool at an awkward path, and the unit that is printed for it."""
    spool = make_spool('two words, 100% "quoted" & $HOME')
    return spool, spool.qm("daemon", "--print-unit").stdout


def test_the_unit_leaves_the_jobs_alone_and_names_this_spool(unit: tuple[TestSpool, str]) -> None:
    spool, text = unit
    lines = text.splitlines()
    assert {"KillMode=process", "Delegate=yes", "ExecReload=/bin/kill -HUP $MAINPID"} < set(lines)
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    written = str(spool.config).replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    assert start.endswith(f'QueueManager -c "{written}"')
    (mounts,) = [line for line in lines if line.startswith("RequiresMountsFor=")]
    assert mounts.endswith(f"""{spool.root.name.replace("%", "%%").replace('"', chr(92) + '"')}\"""")
    assert "@" not in text


def test_both_names_of_the_daemon_print_the_same_unit(unit: tuple[TestSpool, str]) -> None:
    spool, text = unit
    command = [sys.executable, "-m", "qm.cli.queuemanager", "-c", str(spool.config), "--print-unit"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == text


@pytest.mark.parametrize(("version", "known"), [("systemd 252 (252.38)", False), ("systemd 254", True), ("", False)])
def test_the_daemon_stands_in_a_leaf_of_its_group_where_systemd_can_put_it_there(
    version: str, known: bool, make_spool: Callable[..., TestSpool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    lines = make_spool().qm("daemon", "--print-unit").stdout.splitlines()
    assert ("DelegateSubgroup=qm-daemon" in lines) is known and "Delegate=yes" in lines


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_understands_the_unit(unit: tuple[TestSpool, str], tmp_path: Path) -> None:
    _, text = unit
    program = tmp_path / "QueueManager"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = tmp_path / "QueueManager.service"
    file.write_text(re.sub("(?m)^ExecStart=.*?QueueManager", f"ExecStart={program}", text))
    said = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in (said.stdout + said.stderr).splitlines() if "QueueManager" in line]
    assert ours == []

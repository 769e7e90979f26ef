"""Request and answer files: how programs ask the daemon, with nothing but the file system between them.

Invariant: a request is renamed into view whole; the daemon removes it only after it was obeyed and its answer
written, so a request is never lost, and one that was half obeyed when the daemon died is obeyed again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator

from qm.judgement.arrival import marks_a_copy
from qm.spool.files import free_name, open_regular, read_regular, write_whole
from qm.spool.lock import holder_of
from qm.spool.paths import SpoolPaths
from qm.vocabulary.errors import RequestError, TryAgain
from qm.vocabulary.requests import MAX_REQUEST, Answer, Request, dump, load_answer, load_request

ANSWER_LIFE = 3600.0
"""Seconds that an answer lies about for whoever asked."""

_SUFFIX = ".json"


def leave(paths: SpoolPaths, request: Request) -> str:
    """Write a request for the daemon; returns the name under which its answer will appear."""
    name = f"{time.time_ns():020d}-{os.getpid()}-{os.urandom(3).hex()}{_SUFFIX}"
    hidden = f"{paths.requests}/.{name}"
    try:
        os.makedirs(paths.requests, exist_ok=True)
        write_whole(hidden, dump(request))
        os.rename(hidden, f"{paths.requests}/{name}")
    except OSError as err:
        raise RequestError(f"cannot leave a request in {paths.requests}: {err.strerror}") from err
    return name


def await_answer(paths: SpoolPaths, name: str, patience: float = 10.0) -> Answer:
    """Wait for the answer, up to `patience` seconds. TryAgain when no daemon is there to give one."""
    deadline = time.monotonic() + patience
    pause = 0.001
    while True:
        with contextlib.suppress(OSError):
            answer = load_answer(read_regular(f"{paths.answers}/{name}", MAX_REQUEST))
            if answer is not None:
                return answer
        if pause > 0.03 and holder_of(paths.lock) is None and os.path.exists(f"{paths.requests}/{name}"):
            raise TryAgain("no QueueManager is running; the request is kept and will be obeyed when one starts")
        if time.monotonic() > deadline:
            raise TryAgain(f"no answer within {patience:.0f} s; the request is kept: {paths.requests}/{name}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def await_answers(paths: SpoolPaths, names: Iterable[str], patience: float) -> dict[str, Answer]:
    """The answers to these requests that come within `patience` seconds in all; fewer when no daemon is there."""
    deadline = time.monotonic() + patience
    missing = list(names)
    found: dict[str, Answer] = {}
    pause = 0.001
    while True:
        for name in missing:
            with contextlib.suppress(OSError):
                answer = load_answer(read_regular(f"{paths.answers}/{name}", MAX_REQUEST))
                if answer is not None:
                    found[name] = answer
        missing = [name for name in missing if name not in found]
        over = time.monotonic() + pause > deadline
        if not missing or over or (pause > 0.03 and holder_of(paths.lock) is None):
            return found
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def ask(paths: SpoolPaths, request: Request) -> Answer:
    """Leave a request and wait for its answer."""
    return await_answer(paths, leave(paths, request))


def pending(paths: SpoolPaths) -> Iterator[str]:
    """The names of the requests that wait, oldest first."""
    try:
        names = os.listdir(paths.requests)
    except FileNotFoundError:
        return
    yield from sorted(name for name in names if not marks_a_copy(name))


def read(paths: SpoolPaths, name: str) -> tuple[Request, int]:
    """A request and the uid of the file's owner. RequestError when it cannot be read, FileNotFoundError if gone."""
    path = f"{paths.requests}/{name}"
    try:
        fd = open_regular(path)
    except FileNotFoundError:
        raise
    except OSError as err:
        raise RequestError(f"not a readable regular file: {err.strerror}") from err
    try:
        uid = os.fstat(fd).st_uid
        data = os.read(fd, MAX_REQUEST + 1)
    finally:
        os.close(fd)
    if len(data) > MAX_REQUEST:
        raise RequestError("larger than 64 KiB")
    return load_request(data), uid


def answer(paths: SpoolPaths, name: str, reply: Answer) -> None:
    """Write the answer and remove the request. OSErrors (a full disk) leave the request for another try."""
    write_whole(f"{paths.answers}/{name}", dump(reply))
    try:
        os.unlink(f"{paths.requests}/{name}")
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # a folder (EPERM on some systems): out of the way, as it is
        os.rename(f"{paths.requests}/{name}", f"{paths.requests}/{free_name(paths.requests, '.' + name[:200])}")


def forget_old_answers(paths: SpoolPaths, now: float) -> None:
    """Remove answers older than an hour; `now` in UTC epoch seconds."""
    with contextlib.suppress(OSError), os.scandir(paths.answers) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < now - ANSWER_LIFE:
                    os.unlink(entry.path)

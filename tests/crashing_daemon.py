"""A daemon that dies by SIGKILL at a named step, and a nursery that forks daemons without starting Python anew.

    crashing_daemon.py CONFIG STEP N     serve, and die when STEP (of qm.spool.spool.STEPS) is reached the N-th time
    crashing_daemon.py                   the nursery: for each line `CONFIG TAB STEP TAB N` on standard input, fork
                                         such a daemon and print its pid, then, when it is gone, its wait status

An empty STEP never comes: that daemon lives until somebody else ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable


def bomb(name: str, occurrence: int) -> Callable[[str], None]:
    """What to call at each step: kills this process at the n-th time that the named one is reached."""
    left = occurrence

    def step(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return step


def serve_once(config: str, name: str, occurrence: int) -> int:
    """Be the daemon."""
    from qm.cli.queuemanager import serve
    from qm.vocabulary.errors import QMError

    try:
        return serve(config, step=bomb(name, occurrence))
    except QMError as err:
        print(f"QueueManager: {err}", file=sys.stderr)
        return err.exit_status


def nursery() -> None:
    """Fork a daemon for each line; each is a session leader, like one that was started from a service manager."""
    import qm.daemon.logbook
    import qm.daemon.manager
    import qm.launchers.local
    import qm.spool.settings  # noqa: F401  (what every daemon needs, imported once)

    with contextlib.suppress(ImportError):
        import inotify_simple  # noqa: F401

    for line in sys.stdin:
        config, name, occurrence = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            said = os.open(os.path.join(os.path.dirname(config), "said"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for old, new in ((null, 0), (said, 1), (said, 2)):
                os.dup2(old, new)
            status = 70
            try:
                status = serve_once(config, name, int(occurrence))
            finally:
                sys.stderr.flush()
                if sys.exc_info()[0] is not None:
                    import traceback

                    traceback.print_exc()
                os._exit(status)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        nursery()
    else:
        sys.exit(serve_once(sys.argv[1], sys.argv[2], int(sys.argv[3])))

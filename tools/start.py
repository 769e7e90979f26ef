"""`make start`: daemon and dashboard on this repository's QMserv.cfg, until Ctrl-C or until one of them ends.

Both are asked to end by SIGTERM; running jobs go on, and the next start takes them over.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

CONFIG = Path(__file__).resolve().parent.parent / "QMserv.cfg"
PROGRAMS = Path(sysconfig.get_path("scripts"))


def main() -> int:
    """The exit status of the one that ended by itself, 0 after Ctrl-C, SIGTERM or SIGHUP."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    running = [
        subprocess.Popen([str(PROGRAMS / program), "-c", str(CONFIG)], start_new_session=True)
        for program in ("QueueManager", "WEB_QMserver")
    ]
    try:
        while not any(process.poll() is not None for process in running):
            time.sleep(0.2)
    except KeyboardInterrupt:
        print("\nStopping; running jobs go on, and `make start` takes them over.")
    status = max(process.returncode or 0 for process in running)
    for process in running:
        process.terminate()
    for process in running:
        process.wait(timeout=30)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""What a job of Grid Engine runs for a chunk of a work folder: QM's worker, in the environment of who submitted it.

Invariant: the environment goes by a file that only its owner can read, so any value reaches the tasks and none a
command line. What the engine tells its jobs (their number, their temporary folder, their slots) stays as it set it.
"""

from __future__ import annotations

import os
import pickle

from qm.api import workfiles
from qm.spool.submission import write_new

SCRIPT = "worker_node_script.py"
ENVIRONMENT = "environment.pkl"

_SCRIPT = '''\
#!{python}
"""What Grid Engine runs for a chunk of this folder: QM's worker, in the environment of who submitted it.

What the engine tells its jobs (their number, their temporary folder, their slots) stays as the engine set it.
"""
import os
import pickle
import sys

OWN = ("SGE_", "JOB_", "PE_")
OWN_TOO = ("TMPDIR", "TMP", "NSLOTS", "NHOSTS", "NQUEUES", "QUEUE", "HOSTNAME", "ARC", "REQUEST", "RESTARTED")

chunk = os.path.abspath(sys.argv[1])
with open(os.path.join(os.path.dirname(chunk), "environment.pkl"), "rb") as file:
    given = pickle.load(file)
environment = {key: value for key, value in given["environment"].items() if not os.fsdecode(key).startswith(OWN)}
for name, value in os.environ.items():
    if name.startswith(OWN) or name in OWN_TOO:
        environment[os.fsencode(name)] = os.fsencode(value)
if "TMP" in os.environ and "TMPDIR" not in os.environ:  # Grid Engine 8.1 takes TMPDIR out of the environment it makes
    environment[b"TMPDIR"] = os.fsencode(os.environ["TMP"])
try:
    os.chdir(given["directory"])
except OSError as err:
    print("cannot work in", given["directory"] + ":", err.strerror)
os.execve(sys.executable, [sys.executable, given["worker"], "--chunk", chunk], environment)
'''


def write(directory: str, python: str) -> None:
    """Put both files there, for jobs that `python` runs. OSError."""
    given = {
        "environment": dict(os.environb),
        "directory": os.getcwd(),
        "worker": os.path.join(os.path.dirname(os.path.abspath(workfiles.__file__)), "worker.py"),
    }
    write_new(f"{directory}/{ENVIRONMENT}", pickle.dumps(given, 3), 0o600)  # there may be secrets in it
    # A queue whose shell_start_mode is unix_behavior heeds the first line of a script and not qsub's -S.
    write_new(f"{directory}/{SCRIPT}", os.fsencode(_SCRIPT.replace("{python}", python, 1)), 0o755)

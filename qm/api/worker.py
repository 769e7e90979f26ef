"""A worker: the program that runs Python calls from the files in a job's folder (qm.api.workfiles).

    PYTHON .../qm/api/worker.py DIR             take chunk after chunk from DIR; `.` means $QM_JOB_DIR
    PYTHON .../qm/api/worker.py --chunk FILE    run this one chunk, where Grid Engine gives one to each of its jobs

Exit status (sysexits.h): 0 nothing is left to do (in an array also when functions raised: that is their result), 1 the
one chunk of a plain job has a failure in it, 64 wrong arguments, 66 no such folder or file, 69 it is wanted no more (a
call was cancelled, its owner or its folder is gone), 70 the initializer raised, 74 what came of a chunk could not be
written.

Invariant: started by its path, for `qm` need not be installed where workers run; the functions that it runs see a
module search path in which that leaves no trace. Short, since Python compiles this file each time.
"""

from __future__ import annotations

import os
import sys


def run(arguments: list[str]) -> int:
    """Import qm from where this file lies, without its folder or its neighbours' in sys.path afterwards; then work."""
    here = os.path.dirname(os.path.abspath(__file__))
    if sys.path[:1] == [here]:  # not so with PYTHONSAFEPATH
        del sys.path[0]
    sys.path.insert(0, os.path.dirname(os.path.dirname(here)))
    from qm.api.workloop import main

    del sys.path[0]
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

"""The ledger of the crash tests: a file outside the spool in which scripts say when they begin and how they end.

What it says is true whatever the daemon believes: a script writes its own lines, each in one write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from harness import lines_of

WHO = "$QM_JOB_ID ${QM_ARRAY_TASK_ID:--} $QM_ATTEMPT"


class Execution(NamedTuple):
    """One attempt of a job, or (with a number) of a task of an array."""

    id: str
    task: int | None
    attempt: int


class Line(NamedTuple):
    """`word` is begin, end or signalled; `status` is the script's at its end."""

    word: str
    who: Execution
    status: int | None


class Ledger:
    """Where the scripts of a spool write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def head(self) -> str:
        """The first lines of a script. One that is ended by KILL leaves no `end`."""
        return (
            f'echo "begin {WHO}" >> {self.path}\n'
            f"trap 'echo \"end {WHO} $?\" >> {self.path}' EXIT\n"
            f"trap 'echo \"signalled {WHO}\" >> {self.path}' TERM HUP INT\n"
        )

    def counting(self) -> str:
        """A line of a script that sets $runs to how often it, or this task of it, has begun."""
        return f'runs=$(grep -c "^begin $QM_JOB_ID ${{QM_ARRAY_TASK_ID:--}} " {self.path})\n'

    def read(self) -> list[Line]:
        """Everything that was written, in its order."""
        found = []
        for line in lines_of(self.path):
            word, job_id, task, attempt, *status = line.split()
            who = Execution(job_id, None if task == "-" else int(task), int(attempt))
            found.append(Line(word, who, int(status[0]) if status else None))
        return found


def most_at_once(lines: Iterable[Line], is_meant: Callable[[Execution], bool]) -> int:
    """How many of the executions that are meant ran at one time at most; those without an end are not counted."""
    meant = [line for line in lines if is_meant(line.who)]
    ends = Counter(line.who for line in meant if line.word == "end")
    now = most = 0
    for line in meant:
        if line.word != "signalled" and line.who in ends:
            now += 1 if line.word == "begin" else -1
            most = max(most, now)
    return most

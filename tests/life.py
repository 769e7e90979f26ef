"""What goes on around a daemon that is killed again and again: jobs that come, and requests. For the crash tests."""

from __future__ import annotations

import random

from accounts import Books, Job
from kinds import ELSE, SHORT

UNDONE_BY = {"hold": "release", "pause": "resume"}


class Life:
    """What goes on around the daemon while it is killed again and again."""

    def __init__(self, books: Books, chance: random.Random) -> None:
        self.books = books
        self.chance = chance
        self.stopped: list[tuple[str, str]] = []

    def feed(self) -> None:
        """A few new jobs, and now and then a request."""
        for _ in range(self.chance.choice((0, 1, 1, 2, 3))):
            self._submit()
        if self.books.jobs and self.chance.random() < 0.3:
            self._ask()

    def _submit(self) -> None:
        """A new job; some wait for one that is there, or for one that comes just behind them, some are in a group."""
        names = list(self.books.jobs)
        name = f"job-{len(names)}"
        keys: dict[str, object] = {}
        luck = self.chance.random()
        if luck < 0.1 and names:
            keys = {"after": self.chance.choice(names[-8:])}
        elif luck < 0.15:
            self._submit_one(name, {"after": f"job-{len(names) + 1}"})
            name = f"job-{len(names) + 1}"
        elif luck < 0.3:
            keys = {"group": "pair", "max_parallel": 2}
        self._submit_one(name, keys)

    def _submit_one(self, name: str, keys: dict[str, object]) -> None:
        kind = self.chance.choice(ELSE if self.chance.random() < 0.3 else SHORT)
        self.books.submit(name, kind, "cp" if self.chance.random() < 0.25 else "rename", **keys)

    def _ask(self) -> None:
        verb = self.chance.choice(("kill", "hold", "release", "pause", "resume", "retry"))
        names = list(self.books.jobs)
        job = self.books.jobs[self.chance.choice(names if verb == "retry" else names[-6:])]
        if verb == "kill" and not job.retries:
            job.ends["killed"] = None
            job.kills.append(self.books.ask("kill", job.name))
        elif verb == "retry" and not job.kills and _runs_are_known(job):
            job.retries.append(self.books.ask("retry", job.name))
        elif verb in UNDONE_BY:
            self.stopped.append((UNDONE_BY[verb], job.name))
            self.books.ask(verb, job.name)
        elif verb in UNDONE_BY.values():
            self.books.ask(verb, job.name)

    def undo(self) -> None:
        """Nothing shall wait for ever."""
        for verb, name in self.stopped:
            self.books.ask(verb, name)


def _runs_are_known(job: Job) -> bool:
    """Would it run as often once more? Not if it may be retried while it waits for its next attempt, or for others."""
    return not job.after and (job.is_array or len(job.runs[None]) == 1)

"""Made-up ended jobs: real records in real folders, and their lines of QM_history, for measures and tests of lists.

Invariant: the same arguments always make the same jobs, whatever was made before; nothing that is there is replaced.

    python benchmarks/made_up.py FOLDER NUMBER
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator

from qm.spool import history
from qm.spool.ids import ALPHABET, LENGTH
from qm.spool.paths import SpoolPaths
from qm.vocabulary.options import Options
from qm.vocabulary.record import Job, Record, Run, dump
from qm.vocabulary.states import Place, State

OWNERS = ("ada", "grace", "kurt", "emmy", "alan")
WORK = ("align_reads", "mandelbrot", "segment_cells", "fit_model", "render", "train_net", "count_primes", "md_run")
ENDS = ((State.DONE, 88), (State.FAILED, 7), (State.KILLED, 2), (State.TIMEOUT, 2), (State.OUT_OF_MEMORY, 1))
REASONS = {
    State.DONE: "",
    State.FAILED: "exit status 1",
    State.KILLED: "killed by its owner",
    State.TIMEOUT: "wall_time of 01:00:00 is over",
    State.OUT_OF_MEMORY: "used more than 4 GiB",
}


def make_ended(
    root: str, number: int, *, seed: int = 1, now: float | None = None, days: float = 30.0, log: bool = True
) -> list[Job]:
    """Make `number` jobs that ended within `days` before `now` (UTC epoch seconds), oldest first, with their history.

    `log` writes each a process.log of two lines. The jobs that failed go to QM_lost+found.
    """
    paths = SpoolPaths(root)
    for directory in (*paths.places.values(), paths.history):
        os.makedirs(directory, exist_ok=True)
    jobs = []
    for job in made_up(number, seed, now or time.time(), days):
        files = paths.job(job.place, job.folder)
        os.makedirs(files.dot)
        with open(files.record, "wb") as file:
            file.write(dump(job.record))
        if log:
            with open(files.log, "w", encoding="ascii") as text:
                text.write(f"hello from {job.record.id}\n100 / 100\n")
        history.append(paths.history, job.record)
        jobs.append(job)
    return jobs


def made_up(number: int, seed: int, now: float, days: float) -> Iterator[Job]:
    """The jobs alone, without their folders."""
    rng = random.Random(seed)
    states, weights = zip(*ENDS, strict=True)
    step = days * 86400 / max(1, number)
    for n in range(number):
        state = rng.choices(states, weights)[0]
        finished = now - days * 86400 + (n + 1) * step
        ran, waited = rng.lognormvariate(5, 1.5), rng.lognormvariate(3, 2)
        nb_proc = rng.choice((1, 1, 1, 2, 4, 8))
        name = f"{rng.choice(WORK)}_{seed}_{n:06}"
        status = {State.DONE: 0, State.FAILED: 1}.get(state, 143)
        run = Run(1, finished - ran, finished, state.value, REASONS[state], status)
        record = Record(
            id="".join(rng.choices(ALPHABET, k=LENGTH)),
            name=name,
            owner=rng.choice(OWNERS),
            state=state,
            submitted=finished - ran - waited,
            reason=REASONS[state],
            started=finished - ran,
            finished=finished,
            attempt=1,
            exit_status=status,
            nb_proc=nb_proc,
            processors=tuple(range(first := rng.randrange(9), first + nb_proc)),
            cpu_seconds=ran * nb_proc * rng.uniform(0.3, 1.0),
            peak_memory=rng.randrange(10 << 20, 4 << 30),
            job_file="proc_config.cfg",
            options=Options(script="python process.py", nb_proc=nb_proc, info=f"sample {n}, run {rng.randrange(99)}"),
            history=(run,),
        )
        yield Job(Place.DONE if state is State.DONE else Place.LOST, name, record)


if __name__ == "__main__":
    print(len(make_ended(sys.argv[1], int(sys.argv[2]))), "jobs made in", sys.argv[1])

"""`make demo`: every folder of examples/ through a real daemon on a spool of its own, in less than a minute.

It does what a user would, with the programs a user has: `qm init`, QueueManager, `cp -r`, `qm status`.
Exit status 0 if all jobs are done, else 1 with the reasons. The spool is kept, for the results are in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PROGRAMS = Path(sysconfig.get_path("scripts"))
BOUND = 50.0  # seconds for the jobs; the minute has room for the installation
ENDED = {"done", "failed", "timeout", "out_of_memory", "killed", "invalid", "skipped", "inactive", "lost"}

Entry = dict[str, Any]  # one job, as `qm status --json` lists it


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


def qm(config: Path, *words: str) -> str:
    """What `qm -c config words…` prints."""
    command = [str(PROGRAMS / "qm"), "-c", str(config), *words]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
    if answer.returncode:
        said = answer.stderr or answer.stdout
        raise DemoError(f"{' '.join(command)} ended with {answer.returncode}: {said}")
    return answer.stdout


def jobs_of(config: Path) -> list[Entry]:
    """The queue, by name."""
    entries: list[Entry] = json.loads(qm(config, "status", "--json"))
    return sorted(entries, key=lambda job: str(job["name"]))


@contextmanager
def daemon_on(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon for the time of the block; jobs that are left at its end are killed: nothing stays behind."""
    # In a session of its own, so that Ctrl-C ends the demo first and the demo ends the daemon.
    with (config.parent / "daemon.out").open("wb") as out, ExitStack() as at_the_end:
        command = [str(PROGRAMS / "QueueManager"), "-c", str(config)]
        # As in an activated environment: `python3` in a job finds QM.
        env = {**os.environ, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        daemon = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, env=env)
        at_the_end.callback(daemon.wait, timeout=10)
        at_the_end.callback(daemon.terminate)
        at_the_end.callback(kill_the_rest, config)
        yield daemon


def kill_the_rest(config: Path) -> None:
    left = [job["name"] for job in jobs_of(config) if job["state"] not in ENDED]
    if left:
        qm(config, "kill", *left)


def watch(
    config: Path, daemon: subprocess.Popen[bytes], names: list[str], show: Callable[[list[Entry]], None]
) -> list[Entry]:
    """Show the queue until all of `names` have ended; the list as it is then, or when time is up."""
    deadline = time.monotonic() + BOUND
    while True:
        jobs = jobs_of(config)
        show(jobs)
        ended = {job["name"] for job in jobs if job["state"] in ENDED}
        if ended.issuperset(names) or time.monotonic() > deadline:
            return jobs
        if daemon.poll() is not None:
            said = (config.parent / "daemon.out").read_text(errors="replace")
            raise DemoError(f"the daemon ended by itself, with {daemon.returncode}: {said}")
        time.sleep(0.3)


def table(jobs: list[Entry]) -> Table:
    """The queue as a picture, for a terminal."""
    rows = Table("job", "state", "progress", "", "processors")
    for job in jobs:
        share = 1.0 if job["state"] == "done" else job["progress"] or 0.0
        bar = ProgressBar(total=1.0, completed=share, width=30)
        rows.add_row(job["name"], job["state"], bar, f"{share:4.0%}", str(job["nb_proc"] or ""))
    return rows


class Lines:
    """The queue for a file or a pipe: a line when a job's state changes, and at each quarter of its work."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.shown: dict[str, tuple[str, str]] = {}

    def __call__(self, jobs: list[Entry]) -> None:
        seconds = time.monotonic() - self.begun
        for job in jobs:
            quarters = int(4 * (job["progress"] or 0.0)) if job["state"] == "running" else 0
            now = (str(job["state"]), f"{quarters / 4:4.0%}" if quarters else "")
            if self.shown.get(job["name"]) != now:
                self.shown[job["name"]] = now
                print(f"{seconds:6.1f} s  {job['name']:16} {now[0]:10} {now[1]}", flush=True)


def results_of(job: Entry) -> list[Path]:
    """The files that the job's folder has now and its example has not."""
    folder = Path(job["path"])
    made = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    within = [file.relative_to(folder) for file in made]
    return [
        folder / file
        for file in within
        if not file.parts[0].startswith(".") and not (EXAMPLES / job["name"] / file).exists()
    ]


def report(jobs: list[Entry], names: list[str]) -> int:
    """Where the results are, and what went wrong; the demo's exit status."""
    by_name = {job["name"]: job for job in jobs}
    wrong = []
    print("\nThe results:")
    for name in names:
        job = by_name.get(name)
        if job is None or job["state"] != "done":
            wrong.append(f"{name}: {job['state']}, {job['reason']}" if job else f"{name}: not in the queue")
            continue
        for file in results_of(job):
            print(f"  {file}")
    for line in wrong:
        print(f"NOT DONE  {line}", file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    spool = Path(tempfile.mkdtemp(prefix="qm-demo-")).resolve()
    config = spool / "QMserv.cfg"
    examples = sorted(folder for folder in EXAMPLES.iterdir() if folder.is_dir())
    names = [folder.name for folder in examples]

    print(f"$ qm init {spool}")
    subprocess.run([str(PROGRAMS / "qm"), "init", str(spool)], check=True, stdout=subprocess.DEVNULL)
    print(f"$ QueueManager -c {config} &")
    with daemon_on(config) as daemon:
        for folder in examples:
            print(f"$ cp -r examples/{folder.name} {spool}/QM_qJobs")
            subprocess.run(["cp", "-r", str(folder), str(spool / "QM_qJobs")], check=True)
        console = Console()
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                jobs = watch(config, daemon, names, lambda jobs: live.update(table(jobs), refresh=True))
        else:
            jobs = watch(config, daemon, names, Lines())
        status = report(jobs, names)
    print(f"\nThe spool is kept; to be rid of it: rm -r {spool}")
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DemoError, subprocess.CalledProcessError) as err:
        sys.exit(f"make demo: {err}")
    except KeyboardInterrupt:
        sys.exit(130)

"""The driver of the benchmarks: `python benchmarks/run.py [MEASURE …]`; README.md explains the figures.

Invariant: everything happens in a new folder that is deleted at the end of the run, also after Ctrl-C or
SIGTERM. Not before: ext4 allocates inodes slowly for minutes after many deletions, and the next measure would
feel it.
"""

from __future__ import annotations

import argparse
import datetime
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import dashboard
import decision
import deep
import drain
import idle
import latency
import logs
import pooled
import pools
import primes
import processors
from common import BenchmarkError, Settings, Table, folder_cost
from machine import describe
from peers import ALL, missing

MEASURES: dict[str, Callable[[Settings], Table]] = {
    "latency": latency.measure,
    "drain": drain.measure,
    "idle": idle.measure,
    "deep": deep.measure,
    "decision": decision.measure,
    "processors": processors.measure,
    "dashboard": dashboard.measure,
    "logs": logs.measure,
    "pools": pools.measure,
    "submits": pools.submits,
    "arguments": pools.arguments,
    "primes": primes.measure,
}
KEYS = dict.fromkeys(kind.key for kind in (*ALL, *pooled.ALL))
RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = "# Results\n\nAppended by `python benchmarks/run.py --save`; README.md explains the figures.\n"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description="Speed and scale of QM, against peers.")
    parser.add_argument("measure", nargs="*", help=f"of {', '.join(MEASURES)}; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer jobs, one repeat, a shorter idle time")
    parser.add_argument("--jobs", type=positive, metavar="N", help="how many jobs a measure runs")
    parser.add_argument("--repeat", type=positive, metavar="N", help="how often a measure is repeated")
    parser.add_argument(
        "--only",
        type=names,
        metavar="NAMES",
        default=(),
        help=f"contestants of {','.join(KEYS)}",
    )
    parser.add_argument("--daemon", type=shlex.split, metavar="COMMAND", help="the QueueManager to measure")
    parser.add_argument("--dir", type=Path, metavar="FOLDER", help="make the working folder in this one")
    parser.add_argument("--save", action="store_true", help="append the results to benchmarks/RESULTS.md")
    return parser


def positive(text: str) -> int:
    """A whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def names(text: str) -> Sequence[str]:
    """Contestants' short names, separated by commas."""
    asked = text.split(",")
    if unknown := set(asked) - set(KEYS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return asked


def daemon_command() -> Sequence[str]:
    """The QueueManager installed beside this Python, else the module of the source."""
    program = Path(sys.executable).with_name("QueueManager")
    return [str(program)] if program.exists() else [sys.executable, "-m", "qm.cli.queuemanager"]


@contextmanager
def working_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder; deleted in the end, in several attempts, as a last job may still be writing."""
    folder = Path(tempfile.mkdtemp(prefix="qm-bench-", dir=parent))
    try:
        yield folder
    finally:
        print("deleting the working folder …", file=sys.stderr)
        for _ in range(20):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)
        else:
            print(f"{folder} could not be deleted", file=sys.stderr)


def printed(table: Table) -> str:
    """The table for a terminal: the first column to the left, figures to the right."""
    lines = [list(table.columns), *map(list, table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    text = [table.title, ""]
    for line in lines:
        cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        text.append("    " + "   ".join(cells))
    return "\n".join([*text, "", *(f"    {note}" for note in table.notes)]).rstrip() + "\n"


def markdown(table: Table) -> str:
    """The same table for RESULTS.md."""
    rows = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
    text = [f"### {table.title}", "", *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join([*text, "", *(f"- {note}" for note in table.notes)]).rstrip() + "\n"


def save(machine: Sequence[str], tables: Sequence[Table]) -> None:
    """Append one run to RESULTS.md."""
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    text = "" if RESULTS.exists() else HEADING
    text += f"\n## {when}\n\n" + "".join(f"- {line}\n" for line in machine)
    text += "".join("\n" + markdown(table) for table in tables)
    with RESULTS.open("a", encoding="utf-8") as results:
        results.write(text)


def interrupted(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does, with everything cleared away."""
    raise KeyboardInterrupt


def main() -> int:
    parser = arguments()
    given = parser.parse_args()
    chosen = given.measure or list(MEASURES)
    if unknown := [name for name in chosen if name not in MEASURES]:
        parser.error(f"no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    signal.signal(signal.SIGTERM, interrupted)
    for kind in missing():
        print(f"{kind.name} is not installed and is left out: apt-get install {kind.package}\n")
    tables: list[Table] = []
    status = 0
    try:
        with working_folder(given.dir) as folder:
            cost = folder_cost(folder / "probe")
            machine = [*describe(folder), f"one job folder made and queued in {cost:.0f} µs"]
            print("\n".join(machine) + "\n", flush=True)
            command = given.daemon or daemon_command()
            settings = Settings(folder, command, given.only, given.quick, given.jobs, given.repeat)
            for name in chosen:
                try:
                    tables.append(MEASURES[name](settings))
                except BenchmarkError as err:
                    print(f"{name}: {err}\n", file=sys.stderr)
                    status = 1
                else:
                    print(printed(tables[-1]), flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if given.save and tables:
        save(machine, tables)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""Processes: which are a job's, and that no stranger is ever signalled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from harness import until

from qm.launchers import processes as module
from qm.launchers.base import Start
from qm.launchers.execution import Execution
from qm.launchers.finding import boot_id, since_boot
from qm.launchers.local import LocalLauncher
from qm.launchers.measuring import Meter
from qm.launchers.processes import (
    LinuxProcesses,
    PortableProcesses,
    Process,
    ProcessTable,
    any_undecided,
    descendants,
    tree_of,
)
from qm.spool import usage
from qm.spool.paths import JobPaths
from qm.vocabulary.record import Job, Record, Task
from qm.vocabulary.states import Place, State

ME = os.getuid()
JOB = "abcdefghijkl"


@dataclass
class FakeTable:
    """A machine with the processes that a test wants; what is sent to them is kept."""

    processes: dict[int, Process] = field(default_factory=dict)
    jobs: dict[int, str | None] = field(default_factory=dict)
    uids: dict[int, int] = field(default_factory=dict)
    sent: list[tuple[int, int]] = field(default_factory=list)

    def add(
        self,
        pid: int,
        parent: int = 1,
        session: int = 1,
        job: str | None = "",
        uid: int = ME,
        start: float = 100,
        state: str = "S",
        memory: int = 4096,
    ) -> Process:
        """A process; `job` is the QM_JOB_ID in its environment, None if that cannot be read."""
        self.processes[pid] = Process(pid, parent, session, start, state, 0.0, memory)
        self.jobs[pid] = job
        self.uids[pid] = uid
        return self.processes[pid]

    def snapshot(self) -> dict[int, Process]:
        return dict(self.processes)

    def find(self, pid: int) -> Process | None:
        return self.processes.get(pid)

    def run_of(self, pid: int) -> str | None:
        return self.jobs.get(pid)

    def uid(self, pid: int) -> int | None:
        return self.uids.get(pid)

    def send(self, process: Process, number: int) -> bool:
        self.sent.append((process.pid, number))
        return True


def tree(table: FakeTable, leader: int | None) -> list[int]:
    """The pids of a job's tree."""
    return [process.pid for process in tree_of(table, table.snapshot(), leader, JOB)]


# --- which processes are a job's? ----------------------------------------------------------------------------


def test_a_process_whose_environment_reads_empty_while_it_is_executed_is_not_decided() -> None:
    table = FakeTable()
    table.add(10, job="")
    assert not any_undecided(table, table.snapshot()), "its environment was read: it is no job's"
    table.add(11, job=None)
    assert any_undecided(table, table.snapshot())


def test_kernel_threads_zombies_and_processes_of_others_are_decided() -> None:
    table = FakeTable()
    table.add(2, job=None, memory=0)
    table.add(10, job=None, state="Z")
    table.add(11, job=None, uid=ME + 1)
    assert not any_undecided(table, table.snapshot())


def test_a_tree_is_the_session_its_descendants_and_who_carries_the_id() -> None:
    table = FakeTable()
    table.add(10, session=10, job=JOB)  # the shim
    table.add(11, parent=10, session=10, job=JOB)
    table.add(12, parent=11, session=10)  # without the environment, in the session
    table.add(13, parent=12, session=13)  # without it, out of the session, a descendant
    table.add(14, parent=1, session=14, job=JOB)  # a daemon
    table.add(15, parent=14, session=15)  # the daemon's child
    table.add(20, parent=1, session=20)
    table.add(21, parent=20, session=20, job="anotherjob22")
    assert tree(table, leader=10) == [11, 12, 13, 14, 15]


def test_zombies_and_the_asking_process_itself_are_in_no_tree() -> None:
    table = FakeTable()
    table.add(10, session=10, job=JOB)
    table.add(11, parent=10, session=10, job=JOB, state="Z")
    table.add(os.getpid(), parent=10, session=10, job=JOB)
    assert tree(table, leader=10) == []


def test_an_id_in_the_environment_of_another_user_means_nothing() -> None:
    table = FakeTable()
    table.add(10, job=JOB, uid=ME + 1)
    assert tree(table, leader=None) == []


def test_a_stranger_under_the_number_of_an_ended_shim_is_in_no_tree() -> None:
    table = FakeTable()
    table.add(10, session=10)
    table.add(11, parent=10, session=10)
    assert tree(table, leader=None) == []


def test_what_is_measured_is_the_session_with_all_descendants() -> None:
    table = FakeTable()
    table.add(10, session=10)
    table.add(11, parent=10, session=10)
    table.add(12, parent=11, session=12)
    table.add(20)
    assert [process.pid for process in descendants(table.snapshot(), 10)] == [10, 11, 12]


# --- taking over: is that our shim? --------------------------------------------------------------------------


@dataclass
class TakenOver:
    """A launcher that took over a job whose shim is said to have pid 10."""

    launcher: LocalLauncher
    table: FakeTable

    @property
    def is_over(self) -> bool:
        """Does the launcher say that nothing of the job is left?"""
        return [ended.key for ended in self.launcher.poll()] == [JOB]

    def signalled(self) -> set[int]:
        """Whom the launcher signals when the job is to be ended at once, the shim included."""
        self.launcher.kill_grace = -10.0
        self.launcher.end(JOB)
        self.launcher.tick()
        return {pid for pid, _ in self.table.sent}


def the_start(ticket: str) -> Start:
    """The first start of the job."""
    return Start(Task(JOB, None, 1), 0.0, ticket)


def take_over(table: FakeTable, folder: Path, boot: str | None = None) -> TakenOver:
    """Take over a job that began just now."""
    run = folder / ".qm" / "run"
    run.mkdir(parents=True)
    (run / "1.start").write_text(f"10 {boot or boot_id()} {JOB}\n")
    ticket = f"{boot or boot_id()} {since_boot():.2f}"
    record = Record(JOB, "job", "me", State.RUNNING, 0.0, attempt=1, ticket=ticket)
    launcher = LocalLauncher(str(folder.parent), 1.0, portable=True, table=table)
    launcher.take_over(Job(Place.JOBS, folder.name, record), JobPaths(str(folder)), the_start(ticket))
    return TakenOver(launcher, table)


def just_started() -> int:
    """A start time of now, in clock ticks since boot."""
    return int(since_boot() * os.sysconf("SC_CLK_TCK"))


def test_a_shim_with_the_jobs_id_is_taken_over(tmp_path: Path) -> None:
    table = FakeTable()
    table.add(10, session=10, job=JOB)
    table.add(11, parent=10, session=10, job=JOB)
    taken = take_over(table, tmp_path / "job")
    assert not taken.is_over
    assert taken.signalled() == {10, 11}


def test_a_shim_whose_environment_cannot_be_read_is_known_by_its_start_time(tmp_path: Path) -> None:
    table = FakeTable()
    table.add(10, session=10, job=None, start=just_started())
    assert not take_over(table, tmp_path / "job").is_over


@pytest.mark.parametrize(
    "stranger",
    [
        {"job": ""},
        {"job": "anotherjob22"},
        {"job": JOB, "uid": ME + 1},
        {"job": None, "start": 100},
        {"job": None, "uid": ME + 1},
        {"job": None, "session": 9},
    ],
)
def test_a_stranger_under_the_shims_pid_is_neither_waited_for_nor_signalled(
    stranger: dict[str, object], tmp_path: Path
) -> None:
    table = FakeTable()
    table.add(10, **{"session": 10, "start": just_started(), **stranger})  # type: ignore[arg-type]
    table.add(11, parent=10, session=10)
    taken = take_over(table, tmp_path / "job")
    taken.signalled()
    assert table.sent == []
    assert taken.is_over


def test_after_a_reboot_no_pid_is_the_shims(tmp_path: Path) -> None:
    table = FakeTable()
    table.add(10, session=10, start=just_started())
    taken = take_over(table, tmp_path / "job", boot="another-boot")
    taken.signalled()
    assert table.sent == []
    assert taken.is_over


def test_a_pid_that_is_used_again_later_is_not_the_shims_any_more(tmp_path: Path) -> None:
    table = FakeTable()
    table.add(10, session=10, job=JOB, start=100)
    taken = take_over(table, tmp_path / "job")
    table.add(10, session=10, start=200)
    assert taken.signalled() == set()
    assert taken.is_over


def test_after_a_start_mark_without_text_the_shim_is_found_by_its_environment(tmp_path: Path) -> None:
    table = FakeTable()
    table.add(30, session=30, job=JOB)
    folder = tmp_path / "job"
    taken = take_over(table, folder)
    (folder / ".qm" / "run" / "1.start").write_text("")
    record = Record(JOB, "job", "me", State.RUNNING, 0.0, attempt=1)
    taken.launcher.take_over(Job(Place.JOBS, "job", record), JobPaths(str(folder)), the_start(""))
    assert 30 in taken.signalled()


# --- measuring -----------------------------------------------------------------------------------------------


def test_the_usage_of_an_array_counts_on_when_a_task_ends(tmp_path: Path) -> None:
    table = FakeTable()
    paths = JobPaths(str(tmp_path))
    (tmp_path / ".qm").mkdir()
    meter = Meter(table)
    runs = [Execution(Task(JOB, number, 1), paths, 10 * number, ours=True) for number in (1, 2, 3)]
    for run in runs:
        table.processes[run.pid] = replace(table.add(run.pid, session=run.pid), cpu=float(run.pid))
    meter.tick(runs[:2], 100.0)
    meter.ended(runs[0], 12.0)
    meter.tick(runs[1:2], 200.0)
    again = Meter(table)  # another daemon takes the rest over
    again.tick(runs[1:], 100.0)
    again.ended(runs[1], None)
    again.tick(runs[2:], 200.0)
    assert [cpu for _, cpu, _ in usage.read_rows(paths.usage)] == [30.0, 32.0, 50.0, 50.0]


# --- the tables of this machine ------------------------------------------------------------------------------


@pytest.fixture(params=[LinuxProcesses, PortableProcesses])
def table(request: pytest.FixtureRequest) -> ProcessTable:
    if request.param is LinuxProcesses and not sys.platform.startswith("linux"):
        pytest.skip("there is no /proc of Linux")
    made: ProcessTable = request.param()
    return made


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "300"], env={**os.environ, "QM_RUN_ID": JOB}, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def found(table: ProcessTable, pid: int) -> Process:
    """A process that must be there."""
    process = table.find(pid)
    assert process is not None
    return process


def test_a_process_is_described_as_it_is(table: ProcessTable, child: subprocess.Popen[bytes]) -> None:
    until(lambda: table.run_of(child.pid) == JOB, "the child to have become what it is")
    process = found(table, child.pid)
    assert (process.pid, process.parent, process.session) == (child.pid, os.getpid(), child.pid)
    assert table.uid(child.pid) == ME
    assert process.memory > 0 and process.cpu >= 0
    assert table.snapshot()[child.pid].start == process.start


def test_a_process_that_is_gone_is_not_found(table: ProcessTable) -> None:
    process = subprocess.Popen(["true"])
    seen = table.find(process.pid)
    process.wait()
    assert table.find(process.pid) is None
    assert (table.run_of(process.pid), table.uid(process.pid)) == (None, None)
    if seen is not None:
        assert not table.send(seen, signal.SIGTERM)


def test_a_zombie_and_a_stopped_process_are_seen_as_such(table: ProcessTable, child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGSTOP)
    until(lambda: found(table, child.pid).state == "T")
    child.kill()
    until(lambda: found(table, child.pid).state == "Z")


def test_a_job_without_an_id_in_its_environment_is_told_from_one_that_cannot_be_read(table: ProcessTable) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "QM_JOB_ID"}
    process = subprocess.Popen(["sleep", "300"], env=environment)
    try:
        until(lambda: table.run_of(process.pid) == "")
    finally:
        process.kill()
        process.wait()


def test_a_name_with_brackets_and_spaces_does_not_confuse(table: ProcessTable, tmp_path: Path) -> None:
    odd = tmp_path / "x) R 1 2 3 ("
    shutil.copy(shutil.which("sleep") or "/bin/sleep", odd)
    process = subprocess.Popen([odd, "300"])
    try:
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text().startswith("x)"))
        assert found(table, process.pid).parent == os.getpid()
    finally:
        process.kill()
        process.wait()


def test_a_signal_reaches_the_process_that_was_meant(table: ProcessTable, child: subprocess.Popen[bytes]) -> None:
    assert table.send(found(table, child.pid), signal.SIGTERM)
    assert child.wait(30) == -signal.SIGTERM


def test_a_signal_for_a_process_that_began_at_another_time_is_not_sent(
    table: ProcessTable, child: subprocess.Popen[bytes]
) -> None:
    process = found(table, child.pid)
    assert not table.send(replace(process, start=process.start + 1), signal.SIGKILL)
    assert child.poll() is None


def test_without_process_descriptors_the_start_time_is_compared_all_the_same(
    monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]
) -> None:
    """Linux before 5.3."""
    if not hasattr(module.os, "pidfd_open"):
        pytest.skip("this system has none anyway")
    monkeypatch.delattr(module.os, "pidfd_open")
    table = LinuxProcesses()
    process = found(table, child.pid)
    assert not table.send(replace(process, start=process.start + 1), signal.SIGKILL)
    assert table.send(process, signal.SIGTERM)
    assert child.wait(30) == -signal.SIGTERM

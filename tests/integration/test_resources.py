"""Processors, memory, GPUs and disk: what jobs ask for is what they get, and no job takes another's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TestSpool, until

MakeSpool = Callable[..., TestSpool]
CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

WHERE = f"{sys.executable} -c 'import os; print(sorted(os.sched_getaffinity(0)))'"

BUSY = """
import sys, time
def burn():
    end = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < end: sum(range(1000))
def burn_all():
    import multiprocessing
    workers = [multiprocessing.Process(target=burn) for _ in range(4)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
burn_all()
"""
"""Four busy processes for so many seconds: threads of Python would take turns by themselves."""

HOG = """
import sys, time
size = int(sys.argv[1]) << 20
data = bytearray(b"x") * size
print(len(data), flush=True)
time.sleep(300)
"""


def reason_of(spool: TestSpool, name: str) -> str:
    """Why a job waits, by `qm status --json`."""
    (reason,) = [str(job["reason"]) for job in spool.status() if job["name"] == name]
    return reason


def python(script: str, *args: object) -> str:
    """A line of shell that runs a script that lies in the job's folder."""
    return " ".join([sys.executable, script, *map(str, args)])


def drop(spool: TestSpool, name: str, program: str, *args: object, **keys: object) -> None:
    """A job with a Python program in its folder."""
    folder = spool.make(name, python("program.py", *args), **keys)
    (folder / "program.py").write_text(program)
    os.rename(folder, spool.queue / name)


def allowed(pid: int) -> set[int]:
    """The processors that a process may use."""
    return os.sched_getaffinity(pid)


# --- processors ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(len(CPUS) < 2, reason="one processor cannot be shared out")
def test_each_job_has_processors_of_its_own(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=2)
    spool.start()
    script = f"{WHERE} > mine; until [ -e ../../go ]; do sleep 0.05; done"
    for name in ("a", "b"):
        spool.drop(name, script)
    until(lambda: all((spool.jobs / name / "mine").exists() for name in ("a", "b")), "both to run")
    until(lambda: all((spool.jobs / name / "mine").read_text() for name in ("a", "b")), "both to say where")
    seen = [(spool.jobs / name / "mine").read_text() for name in ("a", "b")]
    records = [spool.record(spool.jobs / name)["processors"] for name in ("a", "b")]
    assert [f"{processors}\n" for processors in records] == seen
    assert len(records[0]) == len(records[1]) == 1 and records[0] != records[1]
    (spool.root / "go").touch()
    spool.wait_for("a", spool.done)
    spool.wait_for("b", spool.done)
    assert allowed(spool.daemon.pid if spool.daemon else 0) == set(CPUS), "the daemon itself is bound to none"


def test_a_job_with_four_busy_processes_uses_the_one_processor_that_it_asked_for(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    drop(spool, "greedy", BUSY, 1.5, nb_proc=1)
    record = spool.record(spool.wait_for("greedy", spool.done))
    took = record["finished"] - record["started"]
    assert record["cpu_seconds"] <= took * 1.1, "four would have used more than one on any machine with more"


@pytest.mark.parametrize("settings", [{"Limit_Processors": "none"}, {"MaxNbProcessors": 4 * max(1, len(CPUS))}])
def test_jobs_are_bound_to_nothing_where_that_is_off_or_there_are_too_few(
    settings: dict[str, object], make_spool: MakeSpool
) -> None:
    spool = make_spool(**settings)
    spool.start()
    spool.drop("free", f"{WHERE} > mine")
    folder = spool.wait_for("free", spool.done)
    assert (folder / "mine").read_text() == f"{CPUS}\n"
    assert spool.record(folder)["processors"] == []


@pytest.mark.skipif(len(CPUS) < 2, reason="one processor cannot be shared out")
def test_a_resumed_job_gets_processors_that_are_free_now(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=2)
    spool.start()
    go = spool.root / "go"
    wait = f"until [ -e {go} ]; do sleep 0.05; done"
    spool.drop("first", wait)
    first = spool.wait_running("first")
    (old,) = spool.record(first)["processors"]
    spool.qm("pause", "first")
    spool.drop("second", wait)
    assert spool.record(spool.wait_running("second"))["processors"] == [old], "what is free is given to others"
    spool.qm("resume", "first")
    until(lambda: spool.record(first)["state"] == "running", "it to go on")
    (new,) = spool.record(first)["processors"]
    assert new != old
    until(lambda: all(allowed(pid) == {new} for pid in members(spool, "first")), "its processes to be moved")
    go.touch()
    spool.wait_for("first", spool.done)


def members(spool: TestSpool, name: str) -> list[int]:
    """The pids of a job's processes."""
    wanted = f"QM_JOB_NAME={name}".encode()
    found = []
    for pid in spool.processes():
        try:
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") and os.path.exists(f"/proc/{pid}"):
                os.sched_getaffinity(pid)
                found.append(pid)
        except OSError:
            continue
    return found


def test_the_processors_of_a_job_stay_its_own_when_the_daemon_is_killed(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=min(2, len(CPUS)))
    spool.start()
    spool.drop("first", "sleep 300")
    taken = spool.record(spool.wait_running("first"))["processors"]
    spool.stop(signal.SIGKILL)
    spool.start()
    if len(CPUS) > 1:
        spool.drop("second", "sleep 300")
        assert set(spool.record(spool.wait_running("second"))["processors"]).isdisjoint(taken)


# --- memory --------------------------------------------------------------------------------------------------


def test_a_job_over_its_memory_is_ended_and_the_numbers_are_told(any_spool: TestSpool) -> None:
    drop(any_spool, "hog", HOG, 300, mem="100M")
    folder = any_spool.wait_for("hog", any_spool.lost)
    record = any_spool.record(folder)
    assert record["state"] == "out_of_memory"
    log = (folder / "process.log").read_text()
    assert "QM: it " in log and "100.0 MiB" in log
    assert not any_spool.processes()


def test_a_job_that_the_kernel_ended_for_want_of_memory_is_recognised_without_a_group_of_ours(spool: TestSpool) -> None:
    """The kernel's OOM killer, made to strike by a control group that the job enters by itself."""
    group = Path("/sys/fs/cgroup/memory") / f"test-{os.getpid()}-{spool.root.parent.name[-20:]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(50 << 20))
    except OSError:
        pytest.skip("no memory control group can be made here")
    try:
        drop(spool, "starved", f"open('{group}/cgroup.procs', 'w').write('0')\n" + HOG, 300)
        record = spool.record(spool.wait_for("starved", spool.lost))
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), "the group to be empty")
        group.rmdir()
    assert (record["state"], record["exit_status"]) == ("out_of_memory", 137)
    assert "presumably ended by the kernel" in record["reason"]


def test_a_small_job_that_is_killed_while_the_kernel_ends_another_has_failed(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    group = Path("/sys/fs/cgroup/memory") / f"test-{os.getpid()}-{spool.root.parent.name[-20:]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(20 << 20))
    except OSError:
        pytest.skip("no memory control group can be made here")
    try:
        victim = subprocess.Popen([sys.executable, "-c", f"open('{group}/cgroup.procs', 'w').write('0')\n" + HOG, "99"])
        assert victim.wait() == -signal.SIGKILL
        spool.drop("small", "kill -9 $$")
        assert spool.record(spool.wait_for("small"))["state"] == "failed"
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), "the group to be empty")
        group.rmdir()


def test_a_job_within_its_memory_is_left_alone(any_spool: TestSpool) -> None:
    drop(any_spool, "modest", HOG.replace("300)", "1.5)"), 30, mem="200M")
    assert any_spool.record(any_spool.wait_for("modest"))["state"] == "done"


def test_memory_is_scheduled(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=8, MaxMemory="1G")
    spool.start()
    go = spool.root / "go"
    wait = f"until [ -e {go} ]; do sleep 0.05; done"
    spool.drop("first", wait, mem="700M")
    spool.wait_running("first")
    spool.drop("second", wait, mem="500M")
    until(lambda: reason_of(spool, "second") == "324.0 MiB of 1.0 GiB memory free, needs 500.0 MiB", "the reason")
    spool.drop("small", "exit 0", mem="100M")
    spool.wait_for("small", spool.done)
    assert (spool.queue / "second").is_dir()
    go.touch()
    second = spool.record(spool.wait_for("second", spool.done))
    assert second["started"] >= spool.record(spool.wait_for("first"))["finished"]


def test_a_job_that_asks_for_more_than_there_is_is_refused_at_once(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxMemory="1G", MaxGPUs=1)
    spool.start()
    folder = spool.make("huge", "exit 0", mem="2G", gpus=2)
    checked = spool.qm("check", str(folder), check=False)
    assert checked.returncode == 1
    os.rename(folder, spool.queue / "huge")
    record = spool.record(spool.wait_for("huge", spool.lost))
    assert record["state"] == "invalid"
    for word in ("mem", "2.0 GiB", "MaxMemory", "1.0 GiB", "MaxGPUs"):
        assert word in record["reason"] and word in checked.stdout + checked.stderr
    spool.drop("modest", "exit 0", hold="yes")
    until(lambda: (spool.queue / "modest/.qm/job.json").exists(), "it to be accepted")
    refused = spool.qm("set", "modest", "mem=2G", check=False)
    assert refused.returncode == 1 and "MaxMemory" in refused.stderr


# --- GPUs ----------------------------------------------------------------------------------------------------


def test_two_jobs_never_share_a_gpu(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=8, MaxGPUs=3)
    spool.start()
    go = spool.root / "go"
    script = f'echo "$CUDA_VISIBLE_DEVICES" > mine; until [ -e {go} ]; do sleep 0.05; done'
    for name, gpus in (("two", 2), ("one", 1), ("none", 0)):
        spool.drop(name, script, gpus=gpus)
        spool.wait_running(name)
    spool.drop("more", script, gpus=1)
    until(lambda: reason_of(spool, "more") == "0 of 3 GPUs free, needs 1", "the reason")
    seen = {name: until(lambda name=name: (spool.jobs / name / "mine").read_text()) for name in ("two", "one", "none")}
    assert seen == {"two": "0,1\n", "one": "2\n", "none": "\n"}
    assert "no GPUs were asked for" in (spool.jobs / "none/process.log").read_text()
    go.touch()
    spool.wait_for("more", spool.done)


def test_on_a_machine_without_gpus_the_variable_is_left_alone(spool: TestSpool) -> None:
    spool.drop("plain", 'echo "${CUDA_VISIBLE_DEVICES-unset}" > mine')
    assert (spool.wait_for("plain", spool.done) / "mine").read_text() == "unset\n"


# --- disk ----------------------------------------------------------------------------------------------------


def test_no_job_is_started_while_the_disk_has_less_than_its_reserve(make_spool: MakeSpool) -> None:
    spool = make_spool(Disk_Reserve="1P")
    daemon = spool.start()
    spool.drop("waits", "exit 0")
    until(lambda: "Disk_Reserve" in reason_of(spool, "waits"), "the reason")
    until(lambda: "Disk_Reserve" in spool.record(spool.queue / "waits")["reason"], "the record to say so")
    assert "Disk_Reserve" in spool.qm("status").stdout
    spool.configure(Disk_Reserve="0")
    daemon.send_signal(signal.SIGHUP)
    spool.wait_for("waits", spool.done)


def test_a_wide_job_says_what_it_needs(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=8)
    spool.start()
    go = spool.root / "go"
    spool.drop("six", f"until [ -e {go} ]; do sleep 0.05; done", nb_proc=6)
    spool.wait_running("six")
    spool.drop("four", "exit 0", nb_proc=4)
    until(lambda: reason_of(spool, "four") == "2 of 8 processors free, needs 4", "the reason")
    until(lambda: spool.record(spool.queue / "four")["reason"] == "2 of 8 processors free, needs 4", "the record")
    go.touch()
    assert spool.record(spool.wait_for("four", spool.done))["reason"] == ""


def test_what_runs_is_what_was_asked_for(make_spool: MakeSpool) -> None:
    """Never more processors than there are, whatever the mix; counted by the jobs themselves."""
    spool = make_spool(MaxNbProcessors=3)
    ledger = spool.root / "ledger"
    for number in range(12):
        width = 1 + number % 3
        script = f"echo +{width} >> {ledger}; sleep 0.1; echo -{width} >> {ledger}"
        spool.drop(f"j{number}", script, nb_proc=width, wall_time=60 if number % 2 else "20")
    spool.run_until_empty()
    used, peak = 0, 0
    for change in ledger.read_text().split():
        used += int(change)
        peak = max(peak, used)
    assert (used, peak) == (0, 3)

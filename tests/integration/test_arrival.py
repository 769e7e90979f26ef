"""Arrival with real programs that copy: what is complete starts, what is being copied is left alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import TestSpool, lines_of, until

MakeSpool = Callable[..., TestSpool]


@pytest.fixture
def patient(make_spool: MakeSpool) -> TestSpool:
    """A daemon that would need 60 s to see by itself, or by settling, what events tell it at once."""
    spool = make_spool(Settle_Time=60, Poll_Interval=60)
    spool.start()
    return spool


def arrivals(spool: TestSpool) -> list[str]:
    """What lies in QM_qJobs and is no job yet."""
    return [path.name for path in spool.queue.iterdir() if not (path / ".qm").exists()]


@contextlib.contextmanager
def writer(program: str, *words: str | Path) -> Iterator[Callable[[str], str]]:
    """A process of its own that obeys lines; a line is obeyed when its answer has come back."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stdin=-1, stdout=-1, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def tell(line: str) -> str:
            stdin.write(line + "\n")
            stdin.flush()
            return stdout.readline().strip()

        yield tell
        stdin.close()


HOLDER = """
import sys
file = None
for line in sys.stdin:
    if line.strip() == "close":
        file.close()
    elif line.startswith("open "):
        file = open(line.split()[1], "a")
    else:
        file.write(line)
        file.flush()
    print("ok", flush=True)
"""
"""`open PATH`, lines to write into it, `close`: a copying program that can pause where it likes."""


# --- at once -------------------------------------------------------------------------------------------------


def test_a_moved_folder_starts_at_once(patient: TestSpool) -> None:
    subprocess.run(["mv", patient.make("moved", "true"), patient.queue], check=True)
    assert patient.record(patient.wait_for("moved", patient.done))["state"] == "done"


@pytest.mark.parametrize("copying", ["job.part", "job.tmp", "job~", ".job", "@job"])
def test_the_final_rename_of_a_copy_starts_it_at_once(patient: TestSpool, copying: str) -> None:
    shutil.copytree(patient.make("job", "cat data"), patient.queue / copying)
    (patient.queue / copying / "data").write_text("complete\n")
    os.rename(patient.queue / copying, patient.queue / "job")
    assert "complete" in lines_of(patient.wait_for("job", patient.done) / "process.log")


def test_a_submitted_folder_starts_at_once(patient: TestSpool) -> None:
    patient.qm("submit", str(patient.make("submitted", "true")))
    assert patient.record(patient.wait_for("submitted", patient.done))["state"] == "done"


def test_many_moved_folders_all_start_without_settling(patient: TestSpool) -> None:
    made = [patient.make(f"j{number}", "true") for number in range(60)]
    for folder in made:
        os.rename(folder, patient.queue / folder.name)
    until(lambda: len(os.listdir(patient.done)) == 60, "60 jobs to be done")


def test_moved_folders_start_at_once_even_when_a_scan_sees_them_first(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=60, Poll_Interval=0.05)
    spool.start()
    for number in range(60):
        spool.drop(f"j{number}", "true")
    until(lambda: len(os.listdir(spool.done)) == 60, "60 jobs to be done")


def test_a_folder_replaced_by_a_moved_one_while_it_arrives_starts_at_once(patient: TestSpool) -> None:
    shutil.copytree(patient.make("job", "echo half"), patient.queue / "job")
    shutil.rmtree(patient.queue / "job")
    os.rename(patient.make("job", "echo whole", where=patient.root / "other"), patient.queue / "job")
    assert "whole" in lines_of(patient.wait_for("job", patient.done) / "process.log")


# --- by copying ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["cp -r", "cp -a"])
def test_a_copied_folder_runs_when_it_has_settled(any_spool: TestSpool, command: str) -> None:
    made = any_spool.make("copied", "cat deep/down/data")
    (made / "deep" / "down").mkdir(parents=True)
    (made / "deep" / "down" / "data").write_text("all here\n")
    subprocess.run([*command.split(), made, any_spool.queue], check=True)
    assert "all here" in lines_of(any_spool.wait_for("copied", any_spool.done) / "process.log")


def test_old_times_kept_by_the_copy_do_not_make_a_folder_look_settled(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=3600)
    made = spool.make("old", "true")
    for path in (made / "proc_config.cfg", made):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    spool.start()
    subprocess.run(["cp", "-rp", made, spool.queue], check=True)
    shutil.copytree(spool.make("witness", "true"), spool.queue / ".witness")
    os.rename(spool.queue / ".witness", spool.queue / "witness")
    spool.wait_for("witness", spool.done)
    assert arrivals(spool) == ["old"]


def test_a_slow_copy_in_bursts_is_left_alone_until_it_ends(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=0.5, Poll_Interval=0.1)
    spool.start()
    target = spool.queue / "slow"
    target.mkdir()
    (target / "proc_config.cfg").write_text("[QMOptions]\nscript : cat data\n")
    latest = begun = time.monotonic()
    while time.monotonic() < begun + 1.5:
        with open(target / "data", "a") as data:  # opened and closed: only the changes tell
            data.write("burst\n")
        assert time.monotonic() - latest > 0.4 or not (target / ".qm").exists(), "taken between two bursts"
        latest = time.monotonic()
        time.sleep(0.1)  # the pause of the copying program
    log = lines_of(spool.wait_for("slow", spool.done) / "process.log")
    assert log.count("burst") == len(log) - 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux shows who has a file open")
def test_a_file_held_open_for_writing_keeps_a_folder_arriving_however_long_the_pause(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=0.05, Poll_Interval=0.1)
    spool.start()
    target = spool.queue / "held_open"
    with writer(HOLDER) as tell:
        target.mkdir()
        tell(f"open {target}/data")
        tell("first half")
        (target / "proc_config.cfg").write_text("[QMOptions]\nscript : cat data\n")
        for number in range(3):  # other copies settle meanwhile, each after this one
            shutil.copytree(spool.make(f"witness{number}", "true"), spool.queue / f"witness{number}")
            spool.wait_for(f"witness{number}", spool.done)
        assert arrivals(spool) == ["held_open"]
        tell("second half")
        tell("close")
    log = lines_of(spool.wait_for("held_open", spool.done) / "process.log")
    assert log[1:3] == ["first half", "second half"]


def test_a_file_that_is_only_read_keeps_nothing_waiting(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=0.1)
    spool.start()
    shutil.copytree(spool.make("read", "true"), spool.queue / "read")
    with open(spool.queue / "read" / "proc_config.cfg"):
        spool.wait_for("read", spool.done)


def test_a_tree_whose_last_file_trickles_in_runs_with_all_of_it(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=0.2, Poll_Interval=0.1)
    spool.start()
    made = spool.make("trickle", "wc -c < deep/last")
    (made / "deep").mkdir()
    shutil.copytree(made, spool.queue / "trickle")
    last = spool.queue / "trickle" / "deep" / "last"
    with open(last, "wb", buffering=0) as file:
        for _ in range(40):
            file.write(b"x")
            time.sleep(0.03)  # the trickle
    log = lines_of(spool.wait_for("trickle", spool.done) / "process.log")
    assert "40" in [line.strip() for line in log]


def test_a_job_file_that_arrives_last_is_waited_for(any_spool: TestSpool) -> None:
    target = any_spool.queue / "last"
    target.mkdir()
    (target / "data").write_text("data\n")
    any_spool.drop("witness", "true")
    any_spool.wait_for("witness", any_spool.done)
    assert target.exists()
    (target / "proc_config.cfg").write_text("[QMOptions]\nscript : cat data\n")
    assert "data" in lines_of(any_spool.wait_for("last", any_spool.done) / "process.log")


def test_a_client_that_renames_every_file_into_place_is_understood(any_spool: TestSpool) -> None:
    target = any_spool.queue / "synced"
    target.mkdir()
    for name, text in (("proc_config.cfg", "[QMOptions]\nscript : cat data\n"), ("data", "synced\n")):
        (target / f".{name}.Xy12").write_text(text)
        os.rename(target / f".{name}.Xy12", target / name)
    assert "synced" in lines_of(any_spool.wait_for("synced", any_spool.done) / "process.log")


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_copies_a_job_in(any_spool: TestSpool) -> None:
    subprocess.run(["rsync", "-a", any_spool.make("synced", "true"), any_spool.queue], check=True)
    assert any_spool.record(any_spool.wait_for("synced", any_spool.done))["state"] == "done"


def test_many_folders_copied_at_once_all_run(any_spool: TestSpool) -> None:
    for number in range(40):
        any_spool.make(f"j{number}", "cat data").joinpath("data").write_text("x" * 1000)
    subprocess.run(f"cp -r {any_spool.root}/made/* {any_spool.queue}", shell=True, check=True)
    until(lambda: len(os.listdir(any_spool.done)) == 40, "40 jobs to be done")
    assert not os.listdir(any_spool.lost)


def test_a_folder_deleted_again_while_it_arrives_is_forgotten(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=60, Poll_Interval=0.1)
    spool.start()
    shutil.copytree(spool.make("gone", "true"), spool.queue / "gone")
    spool.drop("witness", "true")
    spool.wait_for("witness", spool.done)
    shutil.rmtree(spool.queue / "gone")
    until(lambda: "gone is gone again" in spool.log())
    assert spool.status() == [] or [job["name"] for job in spool.status()] == ["witness"]
    assert not os.listdir(spool.lost)


# --- without a job file, and what is no job ------------------------------------------------------------------


def test_a_folder_without_a_job_file_is_invalid_after_the_grace_and_says_what_was_looked_for(
    make_spool: MakeSpool,
) -> None:
    spool = make_spool(Settle_Time=0.05, Arrival_Grace=0.3)
    spool.start()
    (spool.queue / "empty").mkdir()
    folder = spool.wait_for("empty", spool.lost)
    record = spool.record(folder)
    assert record["state"] == "invalid"
    for said in (record["reason"], (folder / "process.log").read_text()):
        assert "no job file" in said and "proc_config.cfg" in said
    until(lambda: re.search("empty is invalid: no job file .*proc_config.cfg", spool.log()), "the log to say so, too")


def test_names_that_mark_a_copy_are_no_jobs_and_stay(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=0, Arrival_Grace=0)
    names = {".x", "@x", "x.part", "x.tmp", "x~"}
    for name in names:
        spool.make(name, "true", where=spool.queue)
    spool.run_until_empty()
    assert set(os.listdir(spool.queue)) == names
    assert all(os.listdir(spool.queue / name) == ["proc_config.cfg"] for name in names), "nothing was touched"
    for name in names - {".x"}:
        assert spool.log().count(f" {name} in QM_qJobs ") == 1, f"{name} is mentioned once"


def test_plain_files_and_links_are_mentioned_once_and_stay(any_spool: TestSpool) -> None:
    (any_spool.queue / "a_file").write_text("no job")
    (any_spool.queue / "a_link").symlink_to(any_spool.make("linked", "true"))
    os.mkfifo(any_spool.queue / "a_fifo")
    for name in ("one", "two"):
        any_spool.drop(name, "sleep 0.3")
        any_spool.wait_for(name, any_spool.done)
    for name in ("a_file", "a_link", "a_fifo"):
        assert any_spool.log().count(f" {name} in QM_qJobs ") == 1
        assert os.path.lexists(any_spool.queue / name)
    assert (any_spool.root / "made" / "linked" / "proc_config.cfg").exists()
    assert os.listdir(any_spool.root / "made" / "linked") == ["proc_config.cfg"]


# --- changed while it waits ----------------------------------------------------------------------------------


def blocked_queue(spool: TestSpool) -> Callable[[], None]:
    """Occupy the only processor; the function returned frees it."""
    spool.drop("blocker", f"until [ -e {spool.root}/go ]; do sleep 0.02; done")
    spool.wait_running("blocker")
    return (spool.root / "go").touch


def waiting(spool: TestSpool, name: str) -> str:
    """Wait until a folder is an accepted job; its id."""
    until(lambda: (spool.queue / name / ".qm" / "job.json").exists(), f"{name} to be accepted")
    return str(json.loads((spool.queue / name / ".qm" / "job.json").read_text())["id"])


@pytest.fixture
def busy(make_spool: MakeSpool) -> TestSpool:
    """A daemon whose one processor is taken until `go` appears."""
    spool = make_spool(MaxNbProcessors=1, Poll_Interval=0.2)
    spool.start()
    blocked_queue(spool)
    return spool


def test_a_second_copy_onto_a_waiting_job_makes_it_arrive_again_with_its_id(busy: TestSpool) -> None:
    busy.drop("job", "cat data")
    (busy.root / "other" / "job").mkdir(parents=True)
    (busy.root / "other" / "job" / "data").write_text("second copy\n")
    job_id = waiting(busy, "job")
    subprocess.run(["cp", "-r", busy.root / "other" / "job", busy.queue], check=True)
    (busy.root / "go").touch()
    folder = busy.wait_for("job", busy.done)
    assert "second copy" in lines_of(folder / "process.log")
    assert busy.record(folder)["id"] == job_id
    assert "arriving again" in busy.log()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux shows who has a file open")
def test_a_second_copy_that_is_still_going_on_when_its_turn_comes_is_waited_for(busy: TestSpool) -> None:
    busy.drop("job", "cat data")
    waiting(busy, "job")
    with writer(HOLDER) as tell:
        tell(f"open {busy.queue}/job/data")
        tell("first half")
        (busy.root / "go").touch()
        busy.wait_for("blocker", busy.done)
        shutil.copytree(busy.make("witness", "true"), busy.queue / "witness")
        busy.wait_for("witness", busy.done)
        assert (busy.queue / "job").exists()
        tell("second half")
        tell("close")
    assert lines_of(busy.wait_for("job", busy.done) / "process.log")[1:-1] == ["first half", "second half"]


def test_a_new_job_file_copied_onto_a_waiting_job_is_the_one_that_counts(busy: TestSpool) -> None:
    busy.drop("job", "echo old")
    job_id = waiting(busy, "job")
    made = busy.make("job", "echo new", where=busy.root / "other", info="second")
    subprocess.run(["cp", "-r", made, busy.queue], check=True)
    (busy.root / "go").touch()
    folder = busy.wait_for("job", busy.done)
    assert "new" in lines_of(folder / "process.log")
    assert busy.record(folder)["id"] == job_id


def test_what_qm_set_said_survives_a_second_copy(busy: TestSpool) -> None:
    busy.drop("job", "echo $NB_PROC; cat data")
    waiting(busy, "job")
    busy.qm("set", "job", "env_WHO=me", "info=set by hand")
    (busy.queue / "job" / "data").write_text("later\n")
    (busy.root / "go").touch()
    record = busy.record(busy.wait_for("job", busy.done))
    assert record["overrides"] == {"env_WHO": "me", "info": "set by hand"}


def test_a_released_job_that_is_changed_is_not_held_again(busy: TestSpool) -> None:
    busy.drop("job", "cat data", hold="yes")
    job_id = waiting(busy, "job")
    busy.qm("release", "job")
    (busy.queue / "job" / "data").write_text("later\n")
    (busy.root / "go").touch()
    assert busy.record(busy.wait_for("job", busy.done))["id"] == job_id


def test_a_waiting_folder_taken_out_by_hand_is_withdrawn(busy: TestSpool) -> None:
    busy.drop("job", "echo ran > $QM_FOLDER/ran")
    waiting(busy, "job")
    os.rename(busy.queue / "job", busy.root / "taken")
    until(lambda: "job (" in busy.log() and "withdrawn" in busy.log())
    (busy.root / "go").touch()
    busy.wait_for("blocker", busy.done)
    busy.drop("next", "true")
    busy.wait_for("next", busy.done)
    assert not (busy.root / "ran").exists()
    assert (busy.root / "taken" / "proc_config.cfg").exists()


def test_a_waiting_folder_that_was_deleted_is_withdrawn(any_spool: TestSpool) -> None:
    any_spool.drop("job", "true", hold="yes")
    waiting(any_spool, "job")
    shutil.rmtree(any_spool.queue / "job")
    until(lambda: "withdrawn" in any_spool.log())
    assert any_spool.qm("show", "job", check=False).returncode == 66


def test_a_folder_renamed_within_the_queue_is_the_same_job(busy: TestSpool) -> None:
    busy.drop("before", "echo $QM_JOB_NAME")
    job_id = waiting(busy, "before")
    os.rename(busy.queue / "before", busy.queue / "after")
    until(lambda: "renamed to after" in busy.log())
    assert [job["name"] for job in busy.status() if job["id"] == job_id] == ["after"]
    (busy.root / "go").touch()
    folder = busy.wait_for("after", busy.done)
    assert busy.record(folder)["id"] == job_id
    assert "after" in lines_of(folder / "process.log")


def test_a_rename_that_no_event_told_of_leaves_the_same_job(make_spool: MakeSpool) -> None:
    spool = make_spool(Portable="True", Poll_Interval=0.1)
    spool.start()
    spool.drop("before", "true", hold="yes")
    job_id = waiting(spool, "before")
    os.rename(spool.queue / "before", spool.queue / "after")
    until(lambda: "renamed to after" in spool.log())
    spool.qm("release", job_id)
    assert spool.record(spool.wait_for("after", spool.done))["id"] == job_id


def test_a_waiting_folder_renamed_to_a_name_that_marks_a_copy_is_withdrawn(busy: TestSpool) -> None:
    busy.drop("job", "cat data")
    job_id = waiting(busy, "job")
    os.rename(busy.queue / "job", busy.queue / "job.part")
    until(lambda: "withdrawn" in busy.log())
    (busy.queue / "job.part" / "data").write_text("added\n")
    os.rename(busy.queue / "job.part", busy.queue / "job")
    (busy.root / "go").touch()
    folder = busy.wait_for("job", busy.done)
    assert "added" in lines_of(folder / "process.log")
    assert busy.record(folder)["id"] != job_id


def test_a_folder_renamed_twice_in_one_breath_is_the_same_job(busy: TestSpool) -> None:
    assert busy.daemon is not None
    busy.drop("one", "echo $QM_JOB_NAME")
    job_id = waiting(busy, "one")
    os.kill(busy.daemon.pid, signal.SIGSTOP)
    os.rename(busy.queue / "one", busy.queue / "two")
    os.rename(busy.queue / "two", busy.queue / "three")
    os.kill(busy.daemon.pid, signal.SIGCONT)
    (busy.root / "go").touch()
    assert busy.record(busy.wait_for("three", busy.done))["id"] == job_id


def test_a_folder_renamed_while_the_daemon_is_down_is_the_same_job(busy: TestSpool) -> None:
    busy.drop("before", "true")
    job_id = waiting(busy, "before")
    busy.stop()
    os.rename(busy.queue / "before", busy.queue / "after")
    (busy.root / "go").touch()
    busy.start()
    record = busy.record(busy.wait_for("after", busy.done))
    assert (record["id"], record["name"]) == (job_id, "after")


# --- taken out, put back -------------------------------------------------------------------------------------


def test_taking_a_running_folder_out_ends_its_processes(any_spool: TestSpool) -> None:
    any_spool.drop("job", "sleep 600 & sleep 600")
    folder = any_spool.wait_running("job")
    until(lambda: len(any_spool.processes()) >= 3)
    os.rename(folder, any_spool.root / "taken")
    until(lambda: not any_spool.processes(), "its processes to end")
    until(lambda: "killed" in any_spool.log())
    assert "taken out of QM_Jobs by hand" in any_spool.log()
    any_spool.drop("next", "true")
    any_spool.wait_for("next", any_spool.done)


@pytest.mark.parametrize("command", ["mv", "cp -r"])
def test_a_done_folder_put_into_the_queue_again_is_a_new_job(any_spool: TestSpool, command: str) -> None:
    any_spool.drop("job", "echo $QM_JOB_ID")
    first = any_spool.record(any_spool.wait_for("job", any_spool.done))
    subprocess.run([*command.split(), any_spool.done / "job", any_spool.queue], check=True)
    folder = any_spool.wait_for("job" if command == "mv" else "job.2", any_spool.done)
    second = any_spool.record(folder)
    assert second["id"] != first["id"]
    assert (second["name"], second["attempt"]) == ("job", 1)
    assert second["id"] in lines_of(folder / "process.log")
    assert json.loads((folder / f".qm.{first['id']}" / "job.json").read_text())["id"] == first["id"]
    assert first["id"] in lines_of(folder / "process.log.1"), "the earlier log is kept"


def test_a_folder_put_back_while_the_daemon_is_down_is_a_new_job(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.drop("job", "true")
    spool.run_until_empty()
    first = spool.record(spool.done / "job")["id"]
    os.rename(spool.done / "job", spool.queue / "job")
    spool.run_until_empty()
    assert spool.record(spool.done / "job")["id"] != first
    assert (spool.done / "job" / f".qm.{first}").is_dir()


# --- the daemon's own folder, and events that were lost ------------------------------------------------------


def test_deleting_the_spools_hidden_folder_while_the_daemon_runs_loses_nothing(any_spool: TestSpool) -> None:
    any_spool.drop("long", f"until [ -e {any_spool.root}/go ]; do sleep 0.02; done; exit 4")
    any_spool.drop("held", "true", hold="yes")
    any_spool.wait_running("long")
    job_id = waiting(any_spool, "held")
    shutil.rmtree(any_spool.root / ".qm")
    until(lambda: (any_spool.root / ".qm" / "requests").is_dir(), "the hidden folder to be made anew")
    assert any_spool.qm("daemon", check=False).returncode == 75, "the lock is held again"
    any_spool.qm("release", "held")
    assert any_spool.record(any_spool.wait_for("held", any_spool.done))["id"] == job_id
    (any_spool.root / "go").touch()
    assert any_spool.record(any_spool.wait_for("long"))["exit_status"] == 4


def test_deleting_the_spools_hidden_folder_while_the_daemon_is_stopped_loses_nothing(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("long", f"until [ -e {spool.root}/go ]; do sleep 0.02; done; exit 4")
    spool.drop("held", "true", hold="yes")
    spool.wait_running("long")
    job_id = waiting(spool, "held")
    spool.stop()
    shutil.rmtree(spool.root / ".qm")
    spool.start()
    (spool.root / "go").touch()
    assert spool.record(spool.wait_for("long"))["exit_status"] == 4
    spool.qm("release", "held")
    assert spool.record(spool.wait_for("held", spool.done))["id"] == job_id


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify(7)")
def test_an_overflow_of_the_event_queue_loses_no_job(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=60)
    spool.start()
    assert spool.daemon is not None
    os.kill(spool.daemon.pid, signal.SIGSTOP)
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    noise, louder = spool.queue / ".noise", spool.queue / ".louder"
    noise.touch()
    for _ in range(most // 4 + 10):  # two events each time
        os.rename(noise, louder)
        os.rename(louder, noise)
    spool.drop("unheard", "true")
    os.kill(spool.daemon.pid, signal.SIGCONT)
    spool.wait_for("unheard", spool.done)


def test_folders_that_came_while_the_daemon_was_down_run(make_spool: MakeSpool) -> None:
    spool = make_spool()
    shutil.copytree(spool.make("copied", "true"), spool.queue / "copied")
    spool.drop("moved", "true")
    spool.run_until_empty()
    assert sorted(os.listdir(spool.done)) == ["copied", "moved"]

"""What a hostile, unlucky or forgetful folder may not do: end the daemon, lose a job, run one twice, hold up others."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from harness import PATIENCE, TestSpool, lines_of, until

from qm.vocabulary.states import Place

MakeSpool = Callable[..., TestSpool]
NOBODY = 65534
AS_NOBODY = """\
import ctypes, difflib, encodings.ascii, encodings.utf_8_sig, gettext, inotify_simple, locale, os, pwd, sys, threading
import qm.daemon.logbook, qm.daemon.manager, qm.launchers.local
from qm.cli.queuemanager import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""
"""Nobody may not be able to read the Python that root uses, so all is imported before."""


def alive(spool: TestSpool) -> bool:
    return spool.daemon is not None and spool.daemon.poll() is None


def runs_another(spool: TestSpool, name: str = "another") -> None:
    """The daemon lives and goes on with other jobs."""
    spool.drop(name, "true")
    spool.wait_for(name, spool.done)
    assert alive(spool)


def start_as_nobody(spool: TestSpool) -> None:
    """Root is stopped by no permission: as root, the daemon of this spool runs as nobody."""
    if os.getuid() != 0:
        spool.start()
        return
    for path in (spool.root, *spool.root.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    for parent in spool.root.parents:  # the folders of tmp_path are root's alone
        if os.stat(parent).st_uid == 0 and not os.stat(parent).st_mode & 0o001:
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
    spool.daemon = subprocess.Popen(
        [sys.executable, "-c", AS_NOBODY, "-c", str(spool.config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    until(lambda: not alive(spool) or f"serving {spool.root}" in spool.log(), "the daemon to serve")
    assert alive(spool)


def give(folder: Path) -> None:
    """To the user whom the daemon runs as."""
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


# --- requests ------------------------------------------------------------------------------------------------


def test_a_folder_among_the_requests_does_not_end_the_daemon(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.1)
    spool.start()
    (spool.root / ".qm/requests/x.json").mkdir()
    until(lambda: "x.json" in spool.log() or not alive(spool), "the daemon to notice")
    runs_another(spool)
    assert spool.stop() == 0
    spool.run_until_empty()


def test_retrying_an_invalid_job_reads_its_job_file_again(spool: TestSpool) -> None:
    spool.drop("bad", "echo ran", nb_proc="twelve")
    folder = spool.wait_for("bad", spool.lost)
    job_id = spool.record(folder)["id"]
    text = (folder / "proc_config.cfg").read_text()
    (folder / "proc_config.cfg").write_text(text.replace("twelve", "1"))
    spool.qm("retry", "bad")
    folder = spool.wait_for("bad", spool.done)
    assert "ran" in lines_of(folder / "process.log")
    assert spool.record(folder)["id"] == job_id


def test_a_killed_job_gets_its_kill_signal_when_the_grace_is_over(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=60, Kill_Grace=0.2)
    spool.start()
    spool.drop("stubborn", "trap '' TERM\nwhile :; do sleep 0.1; done")
    spool.wait_running("stubborn")
    spool.qm("kill", "stubborn")
    asked = time.monotonic()
    spool.wait_for("stubborn", spool.lost)
    assert time.monotonic() - asked < 3.5  # not at the next sample of its use, nor at the next scan


# --- what a job does to its own folder -----------------------------------------------------------------------


def test_a_job_that_removes_its_hidden_folder_is_filed_and_never_runs_again(any_spool: TestSpool) -> None:
    ledger = any_spool.root / "ledger"
    any_spool.drop("tidy", f"echo ran >> {ledger}; rm -rf .qm; exit 3")
    folder = any_spool.wait_for("tidy", any_spool.lost)
    assert any_spool.record(folder)["exit_status"] == 3
    assert any_spool.stop() == 0
    any_spool.run_until_empty()
    assert lines_of(ledger) == ["ran"]


def test_a_job_that_removed_its_hidden_folder_before_the_daemon_died_is_lost_and_never_runs_again(
    spool: TestSpool,
) -> None:
    ledger, removed = spool.root / "ledger", spool.root / "removed"
    spool.drop("tidy", f"echo ran >> {ledger}; rm -rf .qm; touch {removed}")
    until(removed.exists)
    spool.stop(signal.SIGKILL)
    spool.run_until_empty()
    until(lambda: not spool.processes(), "its shim to end")
    assert lines_of(ledger) == ["ran"]
    assert (spool.done / "tidy").exists() or (spool.lost / "tidy").exists()


def test_a_job_that_makes_its_folder_read_only_ends_with_its_status(make_spool: MakeSpool) -> None:
    spool = make_spool()
    start_as_nobody(spool)
    made = spool.make("frozen", "chmod -R a-w .; exit 5")
    give(made)
    os.rename(made, spool.queue / "frozen")
    folder = spool.wait_for("frozen", spool.lost)
    assert spool.record(folder)["exit_status"] == 5
    assert [line for line in lines_of(folder / "process.log") if "with code 5" in line]
    subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)


def test_a_job_whose_hidden_folder_is_a_link_writes_nothing_where_it_points_to(
    spool: TestSpool, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    spool.drop("linked", f"rm -rf .qm; ln -s {outside} .qm")
    folder = spool.wait_for("linked")
    assert list(outside.iterdir()) == []
    assert spool.record(folder)["state"] == "done"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_an_environment_file_that_is_none_stops_no_other_job(kind: str, spool: TestSpool) -> None:
    made = spool.make("odd", "true")
    (made / ".qm").mkdir()
    kept = made / ".qm/env"
    {"link": lambda: kept.symlink_to("/etc/passwd"), "fifo": lambda: os.mkfifo(kept), "folder": kept.mkdir}[kind]()
    os.rename(made, spool.queue / "odd")
    assert spool.record(spool.wait_for("odd"))["state"] in ("done", "failed")
    runs_another(spool)


# --- what is found at a start --------------------------------------------------------------------------------

RECORD = {
    "format": 1,
    "id": "abcdefghijkl",
    "name": "hostile",
    "owner": "me",
    "state": "pending",
    "submitted": 1.0,
    "options": {"script": "true"},
}


@pytest.mark.parametrize("place", ["QM_qJobs", "QM_Jobs"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"submitted": "yesterday"},
        {"submitted": None},
        {"submitted": float("nan")},
        {"state": "running", "attempt": "x"},
        {"state": "running", "attempt": 1, "started": 1e300},
        {"state": "done", "finished": float("inf")},
        {"tree": [float("inf"), 0, 0, 0]},
        {"name": "../../outside"},
        {"name": "a\0b"},
        {"name": "\ud800"},
        {"name": ".hidden"},
        {"id": "../../../x"},
        {"overrides": {"nb_proc": "many"}},
        {"options": {"nb_proc": -5}},
        {"state": "running", "attempt": 1, "ending": "resume"},
        {"state": "running", "attempt": 1, "ticket": 5},
        {"notes": [1, 2]},
    ],
    ids=lambda value: next(reversed(value)) if isinstance(value, dict) else None,
)
def test_a_hostile_record_neither_ends_the_daemon_nor_leads_out_of_the_spool(
    place: str, wrong: dict[str, object], make_spool: MakeSpool
) -> None:
    spool = make_spool(Settle_Time=0.1)
    made = spool.make("hostile", "true", where=spool.root / place)
    (made / ".qm/run").mkdir(parents=True)
    if wrong.get("state") == "running":
        (made / ".qm/run/1.start").write_text("1 boot abcdefghijkl\n")
    (made / ".qm/job.json").write_text(json.dumps({**RECORD, **wrong}))
    spool.run_until_empty()
    assert len(list(spool.done.iterdir())) + len(list(spool.lost.iterdir())) == 1
    assert not list(spool.root.glob("outside")) and not list(spool.root.parent.glob("outside"))


def test_a_start_mark_with_nonsense_in_it_does_not_end_the_daemon(spool: TestSpool) -> None:
    spool.drop("scribbler", "sleep 60")
    mark = spool.wait_running("scribbler") / ".qm/run/1.start"
    boot = until(mark.read_text).split()[1]
    spool.stop(signal.SIGKILL)
    mark.write_text(f"nonsense {boot} x\n")
    spool.start()
    runs_another(spool)


def test_a_folder_put_into_the_jobs_by_hand_is_not_called_done_unless_it_ran(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=0.1)
    spool.make("by-hand", "echo it ran", where=spool.jobs)
    spool.run_until_empty()
    folder = spool.wait_for("by-hand")
    assert folder.parent != spool.done or "it ran" in lines_of(folder / "process.log")


# --- the system in the way -----------------------------------------------------------------------------------


def _limit_descriptors(spool: TestSpool, most: int) -> None:
    assert spool.daemon is not None
    process = psutil.Process(spool.daemon.pid)
    process.rlimit(resource.RLIMIT_NOFILE, (most, process.rlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.mark.parametrize("portable", ["True", "False"])
def test_without_file_descriptors_nothing_is_lost_and_the_daemon_lives(portable: str, make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.1, Portable=portable, MaxNbProcessors=4)
    go = spool.root / "go"
    spool.start()
    spool.drop("taken-over", f"until [ -e {go} ]; do sleep 0.05; done; exit 7")
    spool.wait_running("taken-over")
    until(lambda: "taken-over" in spool.log() and "started" in spool.log())
    spool.stop(signal.SIGKILL)
    spool.start()
    spool.drop("ends", "sleep 0.3; exit 6")
    spool.wait_running("ends")
    assert spool.daemon is not None
    _limit_descriptors(spool, 3)
    for number in range(3):
        spool.drop(f"job-{number}", "true")
    begun = len(spool.log())
    until(lambda: spool.log()[begun:].count("Too many open files") > 5 or not alive(spool), "trouble")
    _limit_descriptors(spool, 1024)
    for number in range(3):
        spool.wait_for(f"job-{number}", spool.done)
    assert alive(spool)
    assert spool.record(spool.wait_for("ends", spool.lost))["exit_status"] == 6
    assert (spool.jobs / "taken-over").exists()
    go.touch()
    assert spool.record(spool.wait_for("taken-over", spool.lost))["exit_status"] == 7


def test_a_place_that_cannot_be_looked_into_for_a_while_ends_no_job(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.1)
    start_as_nobody(spool)
    go = spool.root / "go"
    made = spool.make("runs", f"until [ -e {go} ]; do sleep 0.05; done; cd /; exit 0")
    give(made)
    os.rename(made, spool.queue / "runs")
    spool.wait_running("runs")
    mode = spool.jobs.stat().st_mode
    spool.jobs.chmod(0)
    begun = time.monotonic()
    until(lambda: time.monotonic() > begun + 0.5)  # several scans
    spool.queue.chmod(0)
    until(lambda: "cannot look through" in spool.log() or not alive(spool), "a complaint")
    spool.jobs.chmod(mode)
    spool.queue.chmod(mode)
    go.touch()
    assert spool.record(spool.wait_for("runs", spool.done))["state"] == "done"
    assert alive(spool)


def test_a_queue_folder_that_is_renamed_away_does_not_end_the_daemon(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.1)
    spool.start()
    os.rename(spool.queue, spool.root / "elsewhere")
    until(lambda: spool.queue.is_dir() or not alive(spool), "a new QM_qJobs")
    runs_another(spool)


def test_a_history_that_cannot_be_written_does_not_end_the_daemon(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.1)
    spool.start()
    (spool.root / "QM_history").write_text("in the way")
    spool.drop("gone", 'rm -rf "$QM_JOB_DIR"')
    until(lambda: "removed while it ran" in spool.log() or not alive(spool), "the end of the job")
    (spool.root / "QM_history").unlink()
    runs_another(spool)


def test_an_ended_job_that_cannot_be_filed_and_is_removed_is_forgotten(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.1)
    (spool.root / "QM_history").write_text("in the way")
    spool.drop("stuck", "true")
    daemon = spool.start("--until-empty")
    until(lambda: "cannot be filed yet" in spool.log(), "the end of the job")
    shutil.rmtree(spool.jobs / "stuck")
    assert daemon.wait(PATIENCE) == 0


def test_a_folder_that_may_not_be_moved_is_reported_once_and_left_as_it_is(make_spool: MakeSpool) -> None:
    if os.getuid() != 0:
        pytest.skip("needs two users")
    spool = make_spool(Poll_Interval=0.1, Settle_Time=0.1)
    start_as_nobody(spool)
    made = spool.make("theirs", "true")
    made.chmod(0o777)  # may be written into, but not renamed: the queue is sticky and belongs to neither
    os.chown(spool.queue, 0, 0)
    spool.queue.chmod(0o1777)
    os.rename(made, spool.queue / "theirs")
    until(lambda: "theirs" in spool.log(), "the report")
    for number in range(3):
        mine = spool.make(f"mine-{number}", "sleep 0.3")
        give(mine)
        os.rename(mine, spool.queue / mine.name)
        spool.wait_for(mine.name, spool.done)
    assert spool.log().count("theirs cannot be taken") == 1
    assert not list((spool.queue / "theirs").glob(".qm.*"))


def test_a_daemon_that_inherits_ignored_child_signals_still_sees_how_jobs_end(make_spool: MakeSpool) -> None:
    spool = make_spool()
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    spool.daemon = subprocess.Popen(
        [sys.executable, "-c", ignoring, sys.executable, "-m", "qm.cli.queuemanager", "-c", str(spool.config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    until(lambda: "serving" in spool.log() or not alive(spool))
    spool.drop("job", "exit 4")
    assert spool.record(spool.wait_for("job", spool.lost))["exit_status"] == 4
    assert alive(spool)


def test_a_daemon_without_standard_error_serves(make_spool: MakeSpool) -> None:
    spool = make_spool()
    spool.daemon = subprocess.Popen(
        [
            "sh",
            "-c",
            'exec "$@" 2>&- >&- <&-',
            "sh",
            sys.executable,
            "-m",
            "qm.cli.queuemanager",
            "-c",
            str(spool.config),
        ],
        start_new_session=True,
    )
    until(lambda: "serving" in spool.log() or not alive(spool))
    runs_another(spool)


# --- order ---------------------------------------------------------------------------------------------------


def _now_on_disk(spool: TestSpool) -> int:
    (spool.root / "clock").touch()
    return (spool.root / "clock").stat().st_ctime_ns


def test_jobs_that_a_scan_finds_together_start_in_the_order_in_which_they_came(make_spool: MakeSpool) -> None:
    spool = make_spool(Portable="True", MaxNbProcessors=1, Poll_Interval=0.5, Settle_Time=0.1)
    spool.start()

    def came(name: str) -> int:
        for place in (spool.queue, spool.jobs, spool.done):
            with contextlib.suppress(FileNotFoundError):
                return (place / name).stat().st_ctime_ns
        return 0

    names = []
    for number in (5, 2, 8, 1, 9, 3, 7, 4):
        names.append(spool.drop(f"job-{number}", "true"))
        until(lambda: _now_on_disk(spool) > came(names[-1]), "the clock of the file system to go on")
    started = {name: spool.record(spool.wait_for(name, spool.done))["started"] for name in names}
    assert sorted(names, key=lambda name: started[name]) == names


def test_no_new_job_takes_the_processors_that_a_resumed_job_waits_for(spool: TestSpool) -> None:
    stop, go = spool.root / "stop", spool.root / "go"
    spool.drop("wide", f"until [ -e {go} ]; do sleep 0.02; done", nb_proc=2)
    spool.wait_running("wide")
    spool.qm("pause", "wide")
    spool.drop("narrow", f"until [ -e {stop} ]; do sleep 0.02; done")
    spool.wait_running("narrow")
    spool.qm("resume", "wide")
    spool.drop("late", "true")
    until(lambda: any(job["name"] == "late" and job["state"] == "pending" for job in spool.status()), "late to wait")
    stop.touch()
    spool.wait_for("narrow", spool.done)
    go.touch()
    wide = spool.record(spool.wait_for("wide", spool.done))
    late = spool.record(spool.wait_for("late", spool.done))
    assert late["started"] >= wide["finished"]


def test_a_resumed_job_respects_blocking(make_spool: MakeSpool) -> None:
    spool = make_spool(launch_type="blocking", MaxNbProcessors=4)
    spool.start()
    end, go = spool.root / "end", spool.root / "go"
    spool.drop("first", f"until [ -e {end} ]; do sleep 0.02; done")
    spool.wait_running("first")
    spool.qm("pause", "first")
    spool.drop("second", f"until [ -e {go} ]; do sleep 0.02; done")
    spool.wait_running("second")
    spool.qm("resume", "first")
    assert spool.record(spool.jobs / "first")["state"] == "paused"
    end.touch()
    go.touch()
    second = spool.record(spool.wait_for("second", spool.done))
    first = spool.record(spool.wait_for("first", spool.done))
    assert first["finished"] >= second["finished"]


# --- cost ----------------------------------------------------------------------------------------------------


def test_a_free_number_is_found_without_trying_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qm.spool import files

    for name in ("job", *(f"job.{number}" for number in range(2, 1001))):
        (tmp_path / name).mkdir()
    asked: list[str] = []
    exists = files.exists
    monkeypatch.setattr(files, "exists", lambda path: asked.append(path) or exists(path))
    assert files.free_name(str(tmp_path), "job") == "job.1001"
    assert len(asked) < 40


# --- small things --------------------------------------------------------------------------------------------


def test_a_file_open_for_writing_is_seen_through_a_linked_spool(tmp_path: Path) -> None:
    from qm.spool.tree import written_to

    (tmp_path / "real/job").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    with open(tmp_path / "real/job/data", "w"):
        assert written_to([f"{tmp_path}/link/job"]) == {f"{tmp_path}/link/job"}


def test_a_note_cannot_forge_a_line_of_the_log(tmp_path: Path) -> None:
    from qm.spool import joblog
    from qm.spool.paths import JobPaths

    os.close(joblog.open_new(JobPaths(str(tmp_path)).log, 0.0, ["a\nJob finished at: x", "\ud800"]))
    lines = lines_of(tmp_path / "process.log")
    assert len(lines) == 3 and lines[-1].startswith("Job started by QM at:")


def test_one_unreadable_folder_below_a_job_does_not_hide_the_rest(make_spool: MakeSpool) -> None:
    spool = make_spool()
    start_as_nobody(spool)
    made = spool.make("half", "true")
    (made / "closed").mkdir()
    (made / "closed/file").write_text("")
    give(made)
    (made / "closed").chmod(0o400)  # may be listed, but nothing in it looked at
    os.rename(made, spool.queue / "half")
    folder = spool.wait_for("half", spool.done)
    assert spool.record(folder)["state"] == "done"
    (folder / "closed").chmod(0o700)


def test_a_tree_deeper_than_a_path_may_be_long_runs(spool: TestSpool) -> None:
    made = spool.make("deep", "true")
    here = os.getcwd()
    try:
        os.chdir(made)
        for _ in range(40):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
    finally:
        os.chdir(here)
    os.rename(made, spool.queue / "deep")
    folder = spool.wait_for("deep")
    assert spool.record(folder)["state"] == "done"
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_tree_too_deep_to_be_copied_to_another_file_system_does_not_end_the_daemon(make_spool: MakeSpool) -> None:
    elsewhere = Path("/dev/shm")
    spool = make_spool(Poll_Interval=0.2)
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == spool.root.stat().st_dev:
        pytest.skip("there is no second file system to file jobs on")
    with tempfile.TemporaryDirectory(dir=elsewhere) as place:
        spool.lost.rmdir()
        spool.lost.symlink_to(place)
        spool.start()
        made = spool.make("deep", "exit 3")
        subprocess.run(["mkdir", "-p", "/".join("d" * 1200)], cwd=made, check=True)
        os.rename(made, spool.queue / "deep")
        until(lambda: "nested too deeply" in spool.log() or not alive(spool), "the failure")
        runs_another(spool)
        spool.stop()
        subprocess.run(["rm", "-rf", str(spool.jobs / "deep")], check=True)


def test_the_second_half_of_a_rename_may_come_with_a_later_read(tmp_path: Path) -> None:
    from qm.spool.events import Inotify
    from qm.spool.paths import SpoolPaths

    paths = SpoolPaths(str(tmp_path))
    for folder in (*paths.places.values(), paths.requests):
        os.makedirs(folder)
    queue = Path(paths.places[Place.QUEUE])
    (queue / "half").mkdir()
    events = Inotify(paths)
    os.rename(queue / "half", queue / "still-half")
    both = events._inotify.read(timeout=0)
    reads = iter([both[:1], both[1:]])
    events._inotify.close()
    events._inotify = type("", (), {"read": lambda self, timeout: next(reads)})()
    assert events.read().left_queue == {"half"}
    news = events.read()
    assert news.renames == {"half": "still-half"} and not news.renamed


def test_a_lock_that_cannot_be_taken_is_explained_in_one_sentence(make_spool: MakeSpool) -> None:
    spool = make_spool()
    (spool.root / ".qm").mkdir()
    (spool.root / ".qm/lock").symlink_to("elsewhere")
    assert spool.start().wait(PATIENCE) == 78
    output = (spool.root / "daemon.out").read_text()
    assert "lock" in output and "Traceback" not in output


def test_a_copy_of_a_running_folder_among_the_jobs_is_left_alone(spool: TestSpool) -> None:
    go = spool.root / "go"
    spool.drop("runs", f"until [ -e {go} ]; do sleep 0.02; done; exit 3")
    running = spool.wait_running("runs")
    spool.stop(signal.SIGKILL)
    shutil.copytree(running, spool.jobs / "runs.bak")
    spool.start()
    go.touch()
    assert spool.record(spool.wait_for("runs", spool.lost))["exit_status"] == 3
    runs_another(spool)
    assert (spool.jobs / "runs.bak").exists()


def test_a_job_that_cannot_be_taken_over_yet_is_taken_over_later_under_its_id(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.1)
    start_as_nobody(spool)
    go = spool.root / "go"
    made = spool.make("runs", f"until [ -e {go} ]; do sleep 0.05; done; exit 9")
    give(made)
    os.rename(made, spool.queue / "runs")
    running = spool.wait_running("runs")
    job_id = spool.record(running)["id"]
    spool.stop(signal.SIGKILL)
    (spool.root / "QueueManager.log").unlink()
    mode = running.stat().st_mode
    (running / ".qm/run").rename(spool.root / "run")  # no start mark, and none can be made
    (running / ".qm").chmod(0o500)
    start_as_nobody(spool)
    until(lambda: "cannot be taken over yet" in spool.log(), "the complaint")
    (running / ".qm").chmod(mode)
    (spool.root / "run").rename(running / ".qm/run")
    until(lambda: f"({job_id}) taken over" in spool.log() or not running.exists(), "the second try")
    go.touch()
    record = spool.record(spool.wait_for("runs", spool.lost))
    assert (record["id"], record["exit_status"]) == (job_id, 9)

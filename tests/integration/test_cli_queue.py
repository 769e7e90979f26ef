"""`qm status`, `show`, `log` and `wait`: what the command line says of the jobs in a spool."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TestSpool, lines_of, until

QM = [sys.executable, "-m", "qm.cli.main"]


# --- status and show -------------------------------------------------------------------------------------------


def test_status_of_an_empty_spool_says_what_to_do(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    said = spool.qm("status").stdout
    assert "QueueManager is not running" in said and "No jobs yet" in said
    assert spool.qm("status", "--json").stdout == "[]\n"


def test_status_shows_what_runs_waits_and_ended(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool(MaxNbProcessors=1)
    daemon = spool.start()
    spool.drop("first", "exit 3")
    spool.wait_for("first")
    go = spool.root / "go"
    spool.drop("second", f"echo 'part 1 / 4'; until [ -e {go} ]; do sleep 0.02; done", info="the %d second")
    spool.wait_running("second")
    until(lambda: "1 / 4" in (spool.jobs / "second" / "process.log").read_text())
    spool.drop("third", "true", priority=7)
    until(lambda: (spool.queue / "third" / ".qm" / "job.json").exists())

    said = spool.qm("status").stdout
    assert f"pid {daemon.pid}" in said and "1 of 1 processors in use" in said
    assert re.search(r"^RUNNING +ID +STATE", said, re.MULTILINE)
    assert re.search(r"^second +\w{12} +running +1 +[\d:]+ +25% .* the %d second$", said, re.MULTILINE)
    assert re.search(r"^third +\w{12} +pending +1 +7 ", said, re.MULTILINE)
    assert re.search(r"^first +\w{12} +failed .* exit status 3$", said, re.MULTILINE)

    jobs = {job["name"]: job for job in spool.status()}
    assert [job["state"] for job in jobs.values()] == ["running", "pending", "failed"], "in the order of the table"
    assert jobs["second"]["progress"] == 0.25
    assert (jobs["first"]["reason"], jobs["first"]["record"]["exit_status"]) == ("exit status 3", 3)
    wanted = "name id state folder place path owner info size nb_proc priority submitted started finished reason"
    assert set(wanted.split()) < set(jobs["third"])

    assert [job["name"] for job in json.loads(spool.qm("status", "first", "--json").stdout)] == ["first"]
    chosen = spool.qm("status", "third", jobs["second"]["id"]).stdout
    assert "second" in chosen and "third" in chosen and "first" not in chosen
    go.touch()


def test_status_says_why_each_job_waits(spool: TestSpool) -> None:
    go = spool.root / "go"
    spool.drop("runs", f"until [ -e {go} ]; do sleep 0.02; done")
    spool.wait_running("runs")
    for name, keys in {"wide": {"nb_proc": 2, "priority": 3}, "next": {"nb_proc": 2}, "held": {"hold": "yes"}}.items():
        spool.drop(name, "true", **keys)
    until(lambda: all((spool.queue / name / ".qm" / "job.json").exists() for name in ("wide", "next", "held")))
    said = spool.qm("status").stdout
    assert re.search(r"^WAITING +ID +STATE +PROC +PRIO +SINCE +OWNER +REASON +INFO$", said, re.MULTILINE)
    assert re.search(r"^wide .* 1 of 2 processors free, needs 2$", said, re.MULTILINE)
    assert re.search(r"^next .* 1 job before it$", said, re.MULTILINE)
    assert re.search(r"^held .* held", said, re.MULTILINE)
    assert {job["name"]: job["reason"] for job in spool.status()}["wide"] == "1 of 2 processors free, needs 2"
    assert "1 of 2 processors free, needs 2" in spool.qm("show", "wide").stdout
    assert re.search(r"^next .* 1 job before it$", spool.qm("status", "next").stdout, re.MULTILINE)
    spool.qm("drain")
    said = spool.qm("status").stdout
    assert re.search(r"^wide .* draining: no job is started$", said, re.MULTILINE)
    go.touch()


def test_status_shows_ten_of_each_kind_unless_all_are_wanted(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    for number in range(13):
        spool.drop(f"job{number}", "true")
    spool.run_until_empty()
    short, whole = spool.qm("status").stdout, spool.qm("status", "--all").stdout
    assert short.count(" done ") == 10 and "… and 3 more ended (qm status --all)" in short
    assert whole.count(" done ") == 13 and "more" not in whole


def test_a_hostile_name_cannot_write_on_the_terminal(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    name = os.fsdecode(b"red\x1b[31m\nline\xff")
    spool.drop(name, "true")
    spool.run_until_empty()
    said = spool.qm("status").stdout
    assert r"red\x1b[31m\nline\xff" in said
    assert spool.qm("show", name).stdout.splitlines()[0].endswith(r"red\x1b[31m\nline\xff")
    assert json.loads(spool.qm("status", "--json").stdout)[0]["name"] == name


def test_a_terminal_without_unicode_gets_escapes(
    make_spool: Callable[..., TestSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make_spool()
    for number in range(12):
        spool.make(f"größe{number}", "true", where=spool.queue)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    said = spool.qm("status")
    assert (said.returncode, said.stderr) == (0, "")
    assert r"gr\xf6\xdfe1" in said.stdout


def test_show_tells_everything_about_one_job(spool: TestSpool) -> None:
    spool.drop("shown", "echo 'half: 50%'; exit 4", info="what it is for", nb_proc=2)
    record = spool.record(spool.wait_for("shown"))
    said = spool.qm("show", record["id"]).stdout
    facts = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in said.splitlines())
    assert facts["name"] == "shown" and facts["state"] == "failed" and facts["exit status"] == "4"
    assert facts["info"] == "what it is for" and facts["processors"] == "2"
    assert facts["folder"] == str(spool.lost / "shown")
    assert facts["script"] == "echo 'half: 50%'; exit 4"
    shown = json.loads(spool.qm("show", "shown", "--json").stdout)
    assert (shown["id"], shown["record"]["exit_status"]) == (record["id"], 4)


def test_a_name_means_the_newest_live_job_then_the_newest_ended_one(spool: TestSpool) -> None:
    ids = []
    for _ in range(2):
        spool.drop("twin", "true")
        until(lambda: len(list(spool.done.iterdir())) == len(ids) + 1)
        ids.append(json.loads(spool.qm("show", "twin", "--json").stdout)["id"])
    assert len(set(ids)) == 2
    spool.drop("twin", f"until [ -e {spool.root}/go ]; do sleep 0.02; done")
    spool.wait_running("twin")
    assert json.loads(spool.qm("show", "twin", "--json").stdout)["state"] == "running"
    assert json.loads(spool.qm("show", ids[0], "--json").stdout)["state"] == "done"
    (spool.root / "go").touch()


# --- log -------------------------------------------------------------------------------------------------------


def test_log_prints_the_output_byte_for_byte_or_its_last_lines(spool: TestSpool) -> None:
    spool.drop("talks", r"printf 'one\ntwo\xff\000\nthree\n'")
    log = spool.wait_for("talks") / "process.log"
    command = [*QM, "-c", str(spool.config), "log", "talks"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == log.read_bytes()
    tail = subprocess.run([*command, "-n", "2"], capture_output=True, check=True).stdout
    assert tail == b"".join(log.read_bytes().splitlines(keepends=True)[-2:])


def test_log_follows_a_job_from_before_its_start_to_its_last_line_in_done(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    spool.drop("followed", f"echo begun; until [ -e {spool.root}/go ]; do sleep 0.02; done; echo over")
    command = [*QM, "-c", str(spool.config), "log", "-f", "followed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as log:
        assert log.stdout is not None
        spool.start()
        assert log.stdout.readline().startswith("Job started by QM at: ")
        assert log.stdout.readline() == "begun\n"
        (spool.root / "go").touch()
        rest = log.stdout.read().splitlines()
        assert log.wait() == 0
    assert rest[0] == "over" and rest[1].startswith("Job finished at: ")
    assert rest[1:] == lines_of(spool.done / "followed" / "process.log")[-1:]


def test_log_of_a_job_that_has_not_begun_says_so(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    spool.make("waits", "true", where=spool.queue)
    said = spool.qm("log", "waits", check=False)
    assert said.returncode == 1
    assert "has no log yet: it is arriving" in said.stderr


# --- wait ------------------------------------------------------------------------------------------------------


def test_wait_exits_0_when_all_are_done_and_1_when_some_ended_otherwise(spool: TestSpool) -> None:
    for name, script in (("good", "true"), ("better", "sleep 0.1"), ("bad", "exit 5")):
        spool.drop(name, script)
    said = spool.qm("wait", "good", "better")
    assert re.findall(r"^(\w+) \w{12} done$", said.stdout, re.MULTILINE) == ["good", "better"]
    said = spool.qm("wait", "good", "bad", check=False)
    assert said.returncode == 1 and "failed: exit status 5" in said.stdout
    assert spool.qm("wait", "-q", "good").stdout == ""
    assert spool.qm("wait", "--all").returncode == 0, "nothing waits or runs"


def test_wait_all_waits_for_what_runs_waits_and_arrives(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool(MaxNbProcessors=1)
    go = spool.root / "go"
    shutil.copytree(spool.make("arrives", "true"), spool.queue / "arrives")
    assert spool.qm("wait", "--all", "--timeout", "0", check=False).returncode == 75
    spool.start()
    for name in ("one", "two"):
        spool.drop(name, f"until [ -e {go} ]; do sleep 0.02; done")
    assert spool.qm("wait", "--all", "--timeout", "0", check=False).returncode == 75
    with subprocess.Popen([*QM, "-c", str(spool.config), "wait", "--all"]) as waiting:
        go.touch()
        assert waiting.wait(timeout=60) == 0
    assert sorted(path.name for path in spool.done.iterdir()) == ["arrives", "one", "two"]


@pytest.mark.parametrize(
    ("script", "status"),
    [("true", 0), ("exit 7", 7), ("kill -9 $$", 128 + 9), ("kill -TERM $$", 128 + 15)],
    ids=["done", "exit 7", "signal 9", "signal 15"],
)
def test_wait_passes_on_the_jobs_own_exit_status(spool: TestSpool, script: str, status: int) -> None:
    spool.drop("ends", f"{script}\n")
    assert spool.qm("wait", "--exit-status", "ends", check=False).returncode == status


def test_wait_stops_waiting_after_the_timeout_with_75(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    spool.drop("waits", "true")
    said = spool.qm("wait", "--timeout", "0.1", "waits", check=False)
    assert said.returncode == 75 and "waits has not ended" in said.stderr


def test_a_job_can_be_waited_for_as_soon_as_it_was_submitted_or_copied_in(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    folder = spool.make("mine", "exit 3")
    shutil.copytree(folder, spool.queue / "copied")
    submitted = spool.qm("submit", str(folder)).stdout.split()[1]
    command = [*QM, "-c", str(spool.config), "wait", "--exit-status"]
    waiting = [subprocess.Popen([*command, name]) for name in ("copied", "mine", submitted)]
    assert [spool.qm("wait", "--timeout", "0", name, check=False).returncode for name in ("copied", submitted)] == [
        75
    ] * 2
    spool.start()
    assert [process.wait(timeout=60) for process in waiting] == [3, 3, 3]


def test_a_copy_of_an_ended_job_is_waited_for_itself(spool: TestSpool) -> None:
    spool.drop("again", "[ -e second ] && exit 9; touch second")
    ended = spool.wait_for("again", spool.done)
    shutil.copytree(ended, spool.queue / "again")
    said = spool.qm("wait", "--exit-status", "again", check=False)
    assert said.returncode == 9, said.stdout + said.stderr


def test_a_waiting_job_that_is_taken_away_ends_the_wait_with_66(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    spool.drop("goes", "true")
    command = [*QM, "-c", str(spool.config), "wait", "goes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        until(lambda: "wait\0goes" in Path(f"/proc/{waiting.pid}/cmdline").read_text())
        assert spool.qm("wait", "goes", "--timeout", "0.3", check=False).returncode == 75
        os.rename(spool.queue / "goes", spool.root / "gone")
        assert waiting.wait(timeout=60) == 66
        assert waiting.stderr is not None and "is gone" in waiting.stderr.read()

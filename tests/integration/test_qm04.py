"""What QM 0.4 got wrong, sentence by sentence: none of it may come back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TestSpool, lines_of, until

MakeSpool = Callable[..., TestSpool]


def wait_accepted(spool: TestSpool, name: str) -> None:
    until(lambda: (spool.queue / name / ".qm" / "job.json").exists(), f"{name} to be accepted")


def most_at_once(ledger: Path) -> int:
    """The highest sum over a file of lines `+2` and `-2`."""
    used = most = 0
    for line in lines_of(ledger):
        used += int(line)
        most = max(most, used)
    assert used == 0
    return most


# "A folder still being copied is filed as invalid, and the copy breaks"


def test_a_folder_still_being_copied_is_left_alone_and_the_copy_succeeds(make_spool: MakeSpool) -> None:
    spool = make_spool(Settle_Time=0.5, Poll_Interval=0.1)
    spool.start()
    made = spool.make("copied", "cat a b c", nb_proc=1)
    for name in ("a", "b", "c"):
        (made / name).write_text(f"{name}\n")
    slowly = 'cp -r "$1/a" "$2"; for f in b c proc_config.cfg; do sleep 0.2; cp "$1/$f" "$2" || exit 1; done'
    (spool.queue / "copied").mkdir()
    copy = subprocess.run(["sh", "-c", slowly, "cp", made, spool.queue / "copied"], capture_output=True, check=False)
    assert (copy.returncode, copy.stderr) == (0, b"")
    assert lines_of(spool.wait_for("copied", spool.done) / "process.log")[1:-1] == ["a", "b", "c"]
    assert not os.listdir(spool.lost)


# "a `%` in a script makes the job invalid"


@pytest.mark.parametrize("script", ["date +%s", "printf '100%%\\n'", "echo '%(script)s' %{x} %", "echo a # b; c"])
def test_a_percent_sign_in_a_script_is_an_ordinary_character(spool: TestSpool, script: str) -> None:
    spool.drop("literal", script)
    log = lines_of(spool.wait_for("literal", spool.done) / "process.log")
    wanted = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(log) == 2 + len(wanted)
    if "date" not in script:
        assert log[1:-1] == wanted


# "quotes in a script are split apart"


def test_quotes_in_a_script_hold_words_together(spool: TestSpool) -> None:
    script = """printf '<%s>\\n' "two words" 'it'"'"'s' "a 'b' c" \\"x\\" "$NB_PROC" """
    spool.drop("quotes", script)
    log = lines_of(spool.wait_for("quotes", spool.done) / "process.log")
    assert log[1:-1] == ["<two words>", "<it's>", "<a 'b' c>", '<"x">', "<1>"]


def test_pipes_variables_and_several_lines_are_the_shells(spool: TestSpool) -> None:
    spool.drop("shell", "for i in 1 2 3\ndo\n  echo line $i\ndone | tail -n 2\ntest -n '' || echo last")
    log = lines_of(spool.wait_for("shell", spool.done) / "process.log")
    assert log[1:-1] == ["line 2", "line 3", "last"]


# "one bad command, one nb_proc that is no number, a second job of the same name, a job that deletes its own
#  folder, a relative QM_FOLDER, each ends the daemon"


@pytest.mark.parametrize(
    ("name", "script", "keys"),
    [
        ("bad_command", "no-such-command-anywhere", {}),
        ("bad_syntax", "if then fi (", {}),
        ("bad_number", "true", {"nb_proc": "twelve"}),
        ("bad_number_2", "true", {"nb_proc": ""}),
    ],
)
def test_a_bad_job_ends_nothing_but_itself(spool: TestSpool, name: str, script: str, keys: dict[str, object]) -> None:
    spool.drop(name, script, **keys)
    assert spool.record(spool.wait_for(name, spool.lost))["state"] in ("failed", "invalid")
    spool.drop("next", "true")
    spool.wait_for("next", spool.done)


def test_a_second_job_of_the_same_name_runs_too_at_every_stage(spool: TestSpool) -> None:
    for _ in range(2):
        spool.drop("same", f"until [ -e {spool.root}/go ]; do sleep 0.02; done")
        until(lambda: not (spool.queue / "same").exists())
    until(lambda: len(os.listdir(spool.jobs)) == 2)
    spool.drop("same", "true")
    wait_accepted(spool, "same")
    (spool.root / "go").touch()
    until(lambda: len(os.listdir(spool.done)) == 3)
    assert sorted(os.listdir(spool.done)) == ["same", "same.2", "same.3"]
    assert len({spool.record(folder)["id"] for folder in spool.done.iterdir()}) == 3


def test_a_job_that_deletes_its_own_folder_ends_nothing_but_itself(spool: TestSpool) -> None:
    spool.drop("removes_itself", 'cd /; rm -rf "$QM_JOB_DIR"')
    until(lambda: "its folder was removed while it ran" in spool.log() or "by hand" in spool.log())
    spool.drop("next", "true")
    spool.wait_for("next", spool.done)
    until(lambda: not os.listdir(spool.jobs))


def test_a_job_that_moves_its_own_folder_away_ends_nothing_but_itself(spool: TestSpool) -> None:
    spool.drop("moves_itself", f'mv "$QM_JOB_DIR" {spool.root}/away')
    until((spool.root / "away").exists)
    spool.drop("next", "true")
    spool.wait_for("next", spool.done)


@pytest.mark.parametrize("folder", [".", "sub/../sub", "sub"])
def test_a_relative_folder_is_relative_to_the_configuration_wherever_the_daemon_starts(
    tmp_path: Path, make_spool: MakeSpool, folder: str
) -> None:
    spool = make_spool(QM_FOLDER=folder)
    (spool.root / "sub").mkdir()
    base = spool.root / ("sub" if "sub" in folder else ".")
    (base / "QM_qJobs").mkdir(exist_ok=True)
    os.rename(spool.make("job", "pwd; echo $QM_FOLDER"), base / "QM_qJobs" / "job")
    (tmp_path / "elsewhere").mkdir()
    config = os.path.relpath(spool.config, tmp_path / "elsewhere")
    subprocess.run(
        [sys.executable, "-m", "qm.cli.queuemanager", "-c", config, "--until-empty"],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=60,
        capture_output=True,
    )
    log = lines_of(base / "QM_dJobs" / "job" / "process.log")
    assert [os.path.realpath(line) for line in log[1:-1]] == [
        str(base.resolve() / "QM_Jobs" / "job"),
        str(base.resolve()),
    ]
    assert not os.listdir(tmp_path / "elsewhere")


# "non-blocking mode dies at the first finished job"


def test_non_blocking_mode_outlives_its_finished_jobs(spool: TestSpool) -> None:
    for number in range(8):
        spool.drop(f"j{number}", "true" if number % 2 else "false")
        spool.wait_for(f"j{number}")
    assert spool.daemon is not None and spool.daemon.poll() is None


# "nb_proc of 0 or less overfills the machine"


@pytest.mark.parametrize("width", [0, -1, -100])
def test_nb_proc_below_1_is_invalid(spool: TestSpool, width: int) -> None:
    spool.drop("narrow", "true", nb_proc=width)
    record = spool.record(spool.wait_for("narrow"))
    assert record["state"] == "invalid"
    assert "nb_proc" in record["reason"] and f"'{width}'" in record["reason"]


def test_the_machine_is_never_overfilled(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=2)
    ledger = spool.root / "ledger"
    for number, width in enumerate((0, 1, -3, 2, 1, 5, 1)):
        wide = min(width, 2)
        spool.drop(f"j{number}", f"echo +{wide} >> {ledger}; sleep 0.05; echo -{wide} >> {ledger}", nb_proc=width)
    spool.run_until_empty()
    assert most_at_once(ledger) <= 2
    assert sorted(os.listdir(spool.lost)) == ["j0", "j2"]


# "the order is the job file's mtime, not arrival"


def test_the_order_is_that_of_arrival_whatever_the_times_of_the_job_files(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1)
    spool.start()
    spool.drop("blocker", f"until [ -e {spool.root}/go ]; do sleep 0.02; done")
    spool.wait_running("blocker")
    for age, name in enumerate(("first", "second", "third")):
        made = spool.make(name, f"echo {name} >> {spool.root}/order")
        os.utime(made / "proc_config.cfg", (1_000_000_000 - age, 1_000_000_000 - age))
        os.rename(made, spool.queue / name)
        wait_accepted(spool, name)
    (spool.root / "go").touch()
    spool.wait_for("third", spool.done)
    assert lines_of(spool.root / "order") == ["first", "second", "third"]


# "priority is read and never used"


def test_a_higher_priority_goes_first_and_a_negative_one_last(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=1)
    for name, priority in (("low", -1), ("zero", 0), ("high", 7)):
        made = spool.make(name, f"echo {name} >> {spool.root}/order", hold="yes", priority=priority)
        os.rename(made, spool.queue / name)
    spool.start()
    for name in ("low", "zero", "high"):
        wait_accepted(spool, name)
    spool.qm("drain")
    spool.qm("release", "low", "zero", "high")
    spool.qm("undrain")
    spool.wait_for("low", spool.done)
    assert lines_of(spool.root / "order") == ["high", "zero", "low"]


# "a job that does not fit blocks the line"


def test_a_job_that_does_not_fit_lets_others_pass_that_do(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=3)
    spool.start()
    spool.drop("runs", f"until [ -e {spool.root}/go ]; do sleep 0.02; done", nb_proc=2)
    spool.wait_running("runs")
    spool.drop("wide", "true", nb_proc=2)
    wait_accepted(spool, "wide")
    spool.drop("narrow", "true", nb_proc=1)
    spool.wait_for("narrow", spool.done)
    assert (spool.queue / "wide").exists()
    (spool.root / "go").touch()
    spool.wait_for("wide", spool.done)


def test_a_job_wider_than_the_machine_runs_on_all_of_it(spool: TestSpool) -> None:
    spool.drop("huge", "echo got $NB_PROC", nb_proc=10_000)
    assert "got 2" in lines_of(spool.wait_for("huge", spool.done) / "process.log")


# "a `process.log` that is a link is followed out of the spool"


def test_a_process_log_that_is_a_link_is_not_followed_out_of_the_spool(spool: TestSpool) -> None:
    outside = spool.root / "outside"
    outside.write_text("precious")
    made = spool.make("linked", "echo from the job")
    (made / "process.log").symlink_to(outside)
    os.rename(made, spool.queue / "linked")
    folder = spool.wait_for("linked", spool.done)
    assert outside.read_text() == "precious"
    assert not (folder / "process.log").is_symlink()
    assert "from the job" in lines_of(folder / "process.log")


def test_an_invalid_jobs_log_that_is_a_link_is_not_followed_either(spool: TestSpool) -> None:
    outside = spool.root / "outside"
    outside.write_text("precious")
    made = spool.make("linked", "true", nb_proc="twelve")
    (made / "process.log").symlink_to(outside)
    os.rename(made, spool.queue / "linked")
    folder = spool.wait_for("linked", spool.lost)
    assert outside.read_text() == "precious"
    until(lambda: "twelve" in spool.log())
    assert "twelve" in spool.record(folder)["reason"]


# "a restart throws running jobs into lost+found while they go on running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_leaves_running_jobs_where_they_are(any_spool: TestSpool, number: int) -> None:
    any_spool.drop("long", f"until [ -e {any_spool.root}/go ]; do sleep 0.02; done")
    any_spool.wait_running("long")
    for _ in range(2):
        any_spool.stop(number)
        any_spool.start()
        until(lambda: any_spool.log().count("taken over") or any_spool.log().count("serving") > 1)
        assert os.listdir(any_spool.jobs) == ["long"] and not os.listdir(any_spool.lost)
    (any_spool.root / "go").touch()
    record = any_spool.record(any_spool.wait_for("long", any_spool.done))
    assert (record["exit_status"], record["attempt"]) == (0, 1)


# "jobs share the daemon's process group and get its Ctrl-C"


def test_ctrl_c_reaches_the_daemon_and_no_job(spool: TestSpool) -> None:
    assert spool.daemon is not None
    spool.drop("long", f"sleep 600 & until [ -e {spool.root}/go ]; do sleep 0.02; done; kill $!; exit 6")
    spool.wait_running("long")
    running = until(lambda: len(spool.processes()) >= 3 and spool.processes())
    group = os.getpgid(spool.daemon.pid)
    assert all(os.getpgid(pid) != group and os.getsid(pid) != os.getsid(spool.daemon.pid) for pid in running[:1])
    os.killpg(group, signal.SIGINT)
    assert spool.stop(0) == 0
    assert len(spool.processes()) >= 2
    spool.start()
    (spool.root / "go").touch()
    assert spool.record(spool.wait_for("long"))["exit_status"] == 6


# "out of file descriptors or disk, good jobs are called invalid": see test_full_disk.py


# "`e-mail` of the XML form is never read"


@pytest.mark.parametrize("key", ["e-mail", "e_mail"])
def test_the_mail_address_of_the_xml_form_is_read(spool: TestSpool, key: str) -> None:
    made = spool.root / "made" / "xml"
    made.mkdir(parents=True)
    text = f'<PARAMETER>\n<script value="true"/>\n<{key} value="me@example.org"/>\n</PARAMETER>\n'
    (made / "info.xml").write_text(text)
    os.rename(made, spool.queue / "xml")
    record = spool.record(spool.wait_for("xml", spool.done))
    assert record["options"]["e_mail"] == "me@example.org"


# "mail reads the log where it no longer is"


def test_whoever_tells_of_an_ended_job_finds_its_log_where_it_was_filed(spool: TestSpool) -> None:
    spool.drop("told", "echo the result")
    spool.wait_for("told", spool.done)
    spool.drop("told", "echo another result; exit 3")
    spool.wait_for("told", spool.lost)
    for job_id in (spool.record(place / "told")["id"] for place in (spool.done, spool.lost)):
        assert "result" in spool.qm("log", job_id).stdout
        shown = json.loads(spool.qm("show", "--json", job_id).stdout)
        folder = next(Path(value) for value in shown.values() if str(value).endswith("/told"))
        assert "result" in (folder / "process.log").read_text()


# QM 0.4's own job folders


def test_a_job_folder_of_qm_04_runs_as_it_is(spool: TestSpool) -> None:
    example = Path(__file__).parents[2] / "examples" / "qm04_count"
    shutil.copytree(example, spool.queue / "qm04_count")
    folder = spool.wait_for("qm04_count", spool.done)
    assert (folder / "results.txt").exists()

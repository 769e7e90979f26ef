"""`qm submit`: folders and commands, brought into the queue whole or not at all."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TestSpool, lines_of, until

MakeSpool = Callable[..., TestSpool]


@pytest.fixture
def idle(make_spool: MakeSpool) -> TestSpool:
    """A spool that no daemon serves yet."""
    return make_spool()


def queued(spool: TestSpool) -> list[str]:
    """Everything in QM_qJobs, hidden names too."""
    return sorted(os.listdir(spool.queue))


def run_command(spool: TestSpool, *words: str, cwd: Path | None = None, env: dict[bytes, bytes] | None = None) -> Path:
    """Submit words after `--`, let the daemon run them, return the job's folder."""
    command = [sys.executable, "-m", "qm.cli.main", "-c", str(spool.config), "submit", "--name", "job", "--", *words]
    subprocess.run(command, cwd=cwd or spool.root, env={**os.environb, **(env or {})}, check=True, timeout=60)
    spool.run_until_empty()
    (folder,) = [*spool.done.iterdir(), *spool.lost.iterdir()]
    return folder


def output(folder: Path) -> list[str]:
    """What the job itself printed."""
    return [line for line in lines_of(folder / "process.log") if not line.startswith("Job ")]


# --- folders ---------------------------------------------------------------------------------------------------


def test_a_folder_is_copied_whole_and_its_name_and_id_are_printed(spool: TestSpool) -> None:
    folder = spool.make("mine", "cat 'some data'")
    (folder / "some data").write_text("read\n")
    (folder / "link").symlink_to("some data")
    os.mkfifo(folder / "pipe")
    said = spool.qm("submit", str(folder))
    found = re.fullmatch(r"mine ([a-z2-7]{12})\n", said.stdout)
    assert found and said.stderr == ""
    done = spool.wait_for("mine", spool.done)
    assert spool.record(done)["id"] == found[1]
    assert output(done) == ["read"]
    assert (folder / "some data").exists() and not (folder / ".qm").exists(), "the original is left as it was"


def test_several_folders_are_queued_in_their_order(idle: TestSpool) -> None:
    folders = [idle.make(name, "true") for name in ("c", "a", "b")]
    said = idle.qm("submit", "--json", *map(str, folders))
    assert [job["name"] for job in json.loads(said.stdout)] == ["c", "a", "b"]
    assert "no QueueManager is running" in said.stderr
    idle.run_until_empty()
    assert [line.split()[2] for line in lines_of(idle.root / "QueueManager.log") if "started" in line] == [
        "c",
        "a",
        "b",
    ]


def test_move_leaves_nothing_behind(idle: TestSpool) -> None:
    folder = idle.make("moved", "true")
    idle.qm("submit", "--move", str(folder))
    assert not folder.exists()
    assert queued(idle) == ["moved"]


def test_move_across_file_systems_copies_and_removes(idle: TestSpool) -> None:
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(idle.root).st_dev:
        pytest.skip("no second file system here")
    folder = idle.make("far", "true", where=Path(f"/dev/shm/qm-test-{os.getpid()}"))
    try:
        idle.qm("submit", "--move", str(folder))
        assert not folder.exists()
    finally:
        folder.parent.rmdir()
    assert queued(idle) == ["far"]


def test_names_never_collide(idle: TestSpool) -> None:
    folder = idle.make("twin", "true")
    names = [idle.qm("submit", str(folder)).stdout.split()[0] for _ in range(3)]
    assert names == queued(idle) == ["twin", "twin.2", "twin.3"]


def test_a_trailing_slash_a_dot_and_a_name_of_ones_own(idle: TestSpool) -> None:
    folder = idle.make("plain", "true")
    idle.qm("submit", f"{folder}/")
    idle.qm("submit", ".", cwd=folder)
    idle.qm("submit", "--name", "other", str(folder))
    assert queued(idle) == ["other", "plain", "plain.2"]


@pytest.mark.parametrize("wrong", ["no job file", "bad value", "hidden", "copy in progress", "missing"])
def test_one_wrong_folder_among_several_queues_none(idle: TestSpool, wrong: str) -> None:
    good = idle.make("good", "true")
    bad = {
        "no job file": lambda: idle.root / "made",
        "bad value": lambda: idle.make("bad", "true", nb_proc="twelve"),
        "hidden": lambda: idle.make(".hidden", "true"),
        "copy in progress": lambda: idle.make("half.part", "true"),
        "missing": lambda: idle.root / "missing",
    }[wrong]()
    said = idle.qm("submit", "--move", str(good), str(bad), check=False)
    assert said.returncode == 1
    assert bad.name in said.stderr and said.stdout == ""
    assert queued(idle) == [] and good.exists()


def test_a_hidden_folder_is_queued_under_another_name(idle: TestSpool) -> None:
    idle.qm("submit", "--name", "seen", str(idle.make(".hidden", "true")))
    assert queued(idle) == ["seen"]


@pytest.mark.parametrize(
    "name", ["two words", "quote's \"", "new\nline", "über", "-n", "x" * 255, os.fsdecode(b"\xff\xfe")]
)
def test_odd_names_are_names(idle: TestSpool, name: str) -> None:
    folder = idle.make(name, 'echo "$QM_JOB_NAME"')
    idle.qm("submit", str(folder))
    idle.qm("submit", str(folder))
    idle.run_until_empty()
    records = [idle.record(path) for path in idle.done.iterdir()]
    assert len(records) == 2 and name in [record["name"] for record in records]


def test_a_move_that_fails_puts_the_folder_back(idle: TestSpool) -> None:
    folder = idle.make("back", "true")
    said = idle.qm("submit", "--move", "--name", "x" * 300, str(folder), check=False)
    assert said.returncode == 1 and "name too long" in said.stderr.lower()
    assert folder.exists() and queued(idle) == []


def test_a_folder_that_holds_the_queue_itself_is_refused(idle: TestSpool) -> None:
    (idle.root / "job.sh").write_text("#!/bin/sh\ntrue\n")
    said = idle.qm("submit", str(idle.root), check=False)
    assert said.returncode == 1 and "holds the queue itself" in said.stderr
    assert queued(idle) == []


def test_a_command_without_dashes_is_explained(idle: TestSpool) -> None:
    said = idle.qm("submit", "echo", "hello world", check=False)
    assert said.returncode == 1
    assert "qm submit -- echo 'hello world'" in said.stderr


def test_an_ended_job_is_run_again_as_a_new_one(spool: TestSpool) -> None:
    spool.drop("again", "echo run")
    first = spool.record(spool.wait_for("again", spool.done))
    spool.qm("submit", str(spool.done / "again"))
    second = spool.record(spool.wait_for("again.2", spool.done))
    assert first["id"] != second["id"] and second["attempt"] == 1


# --- commands --------------------------------------------------------------------------------------------------


def test_one_word_is_a_shell_line_and_several_are_just_these_words(idle: TestSpool) -> None:
    assert output(run_command(idle, "echo $((6 * 7)) | tr 4 x; echo 'a  b'")) == ["x2", "a  b"]


def test_words_reach_the_command_as_they_were_typed(idle: TestSpool) -> None:
    odd = ["%s\n", "two  words", "$HOME", "`x`", "a'b\"c", "*", "#no", "100%", "-", "--"]
    assert output(run_command(idle, "printf", *odd)) == odd[1:]


def test_a_command_runs_in_the_directory_it_was_submitted_from(idle: TestSpool, tmp_path: Path) -> None:
    for name in ("plain", "two words ", "new\nline", os.fsdecode(b"\xff")):
        where = tmp_path / name
        where.mkdir()
        run_command(idle, "touch was_here", cwd=where)
        assert (where / "was_here").exists()
        for folder in idle.done.iterdir():
            os.rename(folder, tmp_path / f"done.{os.urandom(4).hex()}")


def test_a_command_keeps_the_environment_it_was_submitted_with(idle: TestSpool) -> None:
    values = {b"ODD": b"two\nlines, a 'quote' and \"two\"; $HOME %s \xff", b"EMPTY": b"", b"OMP_NUM_THREADS": b"7"}
    folder = run_command(idle, sys.executable, "-c", "import os; print(sorted(os.environb.items()))", env=values)
    seen = dict(ast.literal_eval("".join(output(folder))))
    assert {name: seen[name] for name in values} == values
    assert seen[b"QM_JOB_NAME"] == b"job" and seen[b"NB_PROC"] == b"1"
    kept = folder / ".qm" / "env"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_exit_status_of_a_command_is_the_jobs(idle: TestSpool) -> None:
    assert idle.record(run_command(idle, "exit 9"))["exit_status"] == 9
    assert idle.qm("wait", "--exit-status", "job", check=False).returncode == 9


def test_the_words_after_dashes_are_never_options_of_qm(idle: TestSpool) -> None:
    assert output(run_command(idle, "echo", "--json", "-o", "--move", "-h", "--name=x")) == [
        "--json -o --move -h --name=x"
    ]


def test_options_become_keys_of_the_job(idle: TestSpool) -> None:
    words = ["-n", "2", "--priority", "3", "--info", "for 100 %; # all", "-o", "env_COLOUR=red = blue", "-o", "size=9"]
    idle.qm("submit", *words, "--", 'echo "$NB_PROC $COLOUR"')
    idle.run_until_empty()
    folder = idle.done / "echo"
    assert output(folder) == ["2 red = blue"]
    (job,) = idle.status()
    assert (job["priority"], job["info"], job["size"], job["nb_proc"]) == (3, "for 100 %; # all", "9", 2)


def test_a_wrong_option_queues_nothing_and_names_the_key(idle: TestSpool) -> None:
    for words in (["-n", "twelve"], ["-o", "wall_time=soon"], ["--info", "two\nlines"], ["-o", "a\nb=c"]):
        said = idle.qm("submit", *words, "--", "true", check=False)
        assert said.returncode in (1, 2) and said.stderr
        assert queued(idle) == []


def test_hold_queues_a_command_that_waits_for_release(spool: TestSpool) -> None:
    said = spool.qm("submit", "--hold", "--name", "kept", "--", "true")
    job_id = said.stdout.split()[1]
    until(lambda: [job["state"] for job in spool.status()] == ["held"])
    spool.qm("release", job_id)
    spool.wait_for("kept", spool.done)


def test_a_command_is_named_after_its_program(idle: TestSpool) -> None:
    given = ["./.hidden/run.sh  -x", "make && ./run", "half.part~", "/", "echo.tmp"]
    names = [idle.qm("submit", "--", line).stdout.split()[0] for line in given]
    assert names == ["run.sh", "make", "half", "command", "echo"]


def test_the_folder_of_a_command_can_be_read_and_run_by_hand(idle: TestSpool) -> None:
    idle.qm("submit", "--", "echo", "it's")
    script = (idle.queue / "echo" / "job.sh").read_text()
    assert script.startswith("#!/bin/sh\n#QM ")
    assert script.splitlines()[-1] == shlex.join(["echo", "it's"])
    run = subprocess.run(["sh", idle.queue / "echo" / "job.sh"], capture_output=True, text=True, check=True)
    assert run.stdout == "it's\n"


def test_a_command_that_asks_for_more_than_the_machine_has_is_refused_where_it_would_run(
    make_spool: MakeSpool,
) -> None:
    spool = make_spool(MaxMemory="1G", MaxGPUs=1)
    queued = spool.qm("submit", "--mem", "2G", "--", "true")
    assert queued.returncode == 0, "nobody knows who will run it"
    spool.start()
    spool.wait_for("true", spool.lost)
    for words in (["submit", "--mem", "2G", "--", "true"], ["sweep", "echo {slice}", "--slice", "0:3", "-o", "gpus=2"]):
        refused = spool.qm(*words, check=False)
        assert refused.returncode == 1 and "is more than Max" in refused.stderr
    assert spool.qm("submit", "--mem", "1G", "--", "true").returncode == 0


def test_a_wrong_option_is_told_as_one_of_the_command_line(spool: TestSpool) -> None:
    refused = spool.qm("submit", "--mem", "lots", "--", "true", check=False)
    assert refused.returncode == 1
    assert "the command line: mem = 'lots' is not understood" in refused.stderr

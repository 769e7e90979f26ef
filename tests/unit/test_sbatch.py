"""#SBATCH options: a script written for Slurm, read as QM understands it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.vocabulary.errors import JobFileError
from qm.vocabulary.jobfile import read_job_file
from qm.vocabulary.options import to_json
from qm.vocabulary.sbatch import read_sbatch

GIB = 1 << 30


def fields(*lines: str) -> dict[str, Any]:
    """What these lines (behind #SBATCH) ask for, without the mark that there were some."""
    found, notes = read_sbatch(list(enumerate(lines, 2)), "job.sh")
    assert notes == ()
    assert found.pop("slurm") is True
    return found


def notes(*lines: str) -> tuple[str, ...]:
    return read_sbatch(list(enumerate(lines, 2)), "job.sh")[1]


def refusal(line: str) -> str:
    with pytest.raises(JobFileError) as caught:
        read_sbatch([(4, line)], "job.sh")
    return str(caught.value)


def script(*lines: str) -> dict[str, Any]:
    """The options of a job.sh with these lines, but for those that all have."""
    data = "\n".join(("#!/bin/sh", *lines, "true", "")).encode()
    found = to_json(read_job_file("job.sh", data).options)
    del found["script"], found["interpreter"], found["slurm"]
    return found


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("--job-name=demo", {"job_name": "demo"}),
        ("-J demo", {"job_name": "demo"}),
        ("--cpus-per-task=4", {"nb_proc": 4}),
        ("--cpus-per-task 4", {"nb_proc": 4}),
        ("-c4", {"nb_proc": 4}),
        ("-c 4", {"nb_proc": 4}),
        ("--ntasks=3", {"nb_proc": 3, "ntasks": 3}),
        ("-n 2 -c 3", {"nb_proc": 6, "ntasks": 2}),
        ("--mem=512", {"mem": 512 << 20}),
        ("--mem=2G", {"mem": 2 * GIB}),
        ("--mem-per-cpu=1G", {"mem": GIB}),
        ("--mem-per-cpu=1G -n2 -c2", {"mem": 4 * GIB, "nb_proc": 4, "ntasks": 2}),
        ("--time=90", {"wall_time": 5400.0}),
        ("-t 01:30:00", {"wall_time": 5400.0}),
        ("--time=1-12", {"wall_time": 129600.0}),
        ("--time=0", {"wall_time": None}),
        ("--time=UNLIMITED", {"wall_time": None}),
        ("--array=0-15%4", {"array": "0-15%4"}),
        ("-a 1,3", {"array": "1,3"}),
        ("--dependency=afterok:12:13,afterany:14", {"after": ("12", "13", "afterany:14")}),
        ("-d afterok:12", {"after": ("12",)}),
        ("--output=slurm-%j.out", {"output": "slurm-%j.out"}),
        ("-o out -e err", {"output": "out", "error": "err"}),
        ("--mail-user=me@example.org", {"e_mail": "me@example.org"}),
        ("--mail-type=BEGIN,fail", {"mail_type": ("start", "fail")}),
        ("--mail-type=ALL", {"mail_type": ("start", "end", "fail")}),
        ("--mail-type=NONE", {"mail_type": ("none",)}),
        ("--nice=100", {"priority": -100}),
        ("--nice=-5", {"priority": 5}),
        ("--nice", {"priority": -100}),
        ("--requeue", {"attempts": 2, "retry_on": ()}),
        ("--hold", {"hold": True}),
        ("-H -c 2", {"hold": True, "nb_proc": 2}),
        ("--begin=22:00", {"begin": "22:00"}),
        ("-b 2026-01-31T22:00", {"begin": "2026-01-31T22:00"}),
        ("--begin=now+1hour", {"begin": "+3600s"}),
        ("--begin=now+60", {"begin": "+60s"}),
        ("--comment=hello", {"info": "hello"}),
        ('--comment="Buffon\'s needles: pi"', {"info": "Buffon's needles: pi"}),
        ("--comment 'two words'", {"info": "two words"}),
        ("--chdir=sub", {"chdir": "sub"}),
        ("-D sub", {"chdir": "sub"}),
        ("--export=ALL,A=1,B=x=y", {"env": (("A", "1"), ("B", "x=y"))}),
        ("--gres=gpu:2", {"gpus": 2}),
        ("--gres=gpu:tesla:3", {"gpus": 3}),
        ("--gres=gpu", {"gpus": 1}),
        ("--gpus=2", {"gpus": 2}),
        ("-G volta:4", {"gpus": 4}),
        ("-c 2 # as many as it has cores", {"nb_proc": 2}),
        ("-c 2 --time=5 --hold", {"nb_proc": 2, "wall_time": 300.0, "hold": True}),
        ("", {}),
    ],
)
def test_an_option_means_what_it_means_to_slurm(line: str, meant: dict[str, Any]) -> None:
    assert fields(line) == meant


def test_processors_are_the_product_of_options_on_several_lines() -> None:
    assert fields("--ntasks=2", "--cpus-per-task=3", "--mem-per-cpu=512")["mem"] == 6 * 512 << 20


def test_the_last_of_an_option_given_twice_counts() -> None:
    assert fields("-c 2", "-c 4") == {"nb_proc": 4}


# --- what is not known -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "named"),
    [("--partition=long", "--partition=long"), ("--exclusive", "--exclusive"), ("-p long", "--partition=long")],
)
def test_an_option_that_qm_does_not_know_is_named_and_ignored(line: str, named: str) -> None:
    assert notes("-c 2", "", line) == (f"job.sh, line 4: #SBATCH {named} is not known to QM and is ignored",)


def test_an_unknown_flag_does_not_swallow_the_option_behind_it() -> None:
    found, said = read_sbatch([(2, "--overcommit -n 4")], "job.sh")
    assert found["nb_proc"] == 4
    assert said == ("job.sh, line 2: #SBATCH --overcommit is not known to QM and is ignored",)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--dependency=afternotok:5", "afternotok:5"),
        ("--dependency=singleton", "singleton"),
        ("--mail-type=REQUEUE", "REQUEUE"),
        ("--export=NONE", "NONE"),
        ("--export=HOME,A=1", "HOME"),
        ("--gres=license:1", "license:1"),
        ("--mem=0", "memory"),
        ("stray", "stray"),
    ],
)
def test_a_part_that_qm_does_not_know_is_named(line: str, named: str) -> None:
    (note,) = notes(line)
    assert note.startswith("job.sh, line 2: #SBATCH ")
    assert named in note


# --- what is wrong -----------------------------------------------------------------------------------------


def test_a_wrong_value_is_told_with_file_line_option_value_and_what_is_right() -> None:
    assert refusal("--cpus-per-task=four") == (
        "job.sh, line 4: #SBATCH --cpus-per-task = 'four' is not understood; accepted: a whole number of 1 or more"
    )


@pytest.mark.parametrize(
    "line",
    [
        "-c 0", "-c", "--ntasks=-1", "--mem=lots", "--mem-per-cpu=", "--time=soon", "--time=1h", "--array=9-1",
        "--nice=very", "--begin=later", "--begin=now+1eon", "--gres=gpu:many", "--gpus=-1", "--output=",
        "--comment='open", "--job-name=",
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused(line: str) -> None:
    assert refusal(line).startswith("job.sh, line 4: #SBATCH ")


@given(line=st.text() | st.text(alphabet="-=:,+%#'\" acmnt019"))
def test_any_line_is_read_or_refused(line: str) -> None:
    try:
        read_sbatch([(2, line)], "job.sh")
    except JobFileError as err:
        assert str(err).startswith("job.sh, line 2: ")


def test_a_line_of_very_many_words_is_read_in_reasonable_time() -> None:
    begun = time.process_time()
    read_sbatch([(2, "a " * 300_000)], "job.sh")
    assert time.process_time() - begun < 20


# --- beside #QM --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "slurm", "meant"),
    [
        ("nb_proc = 2", "-c 4", {"nb_proc": 2}),
        ("mem = 1G", "--mem=4G", {"mem": GIB}),
        ("info = mine", "--comment=theirs", {"info": "mine"}),
        ("e-mail = a@b", "--mail-user=c@d", {"e_mail": "a@b"}),
        ("email = a@b", "--mail-user=c@d", {"e_mail": "a@b"}),
        ("priority = 3", "--nice=5", {"priority": 3}),
        ("env_A = 1", "--export=A=2,B=3", {"env": (("A", "1"), ("B", "3"))}),
        ("attempts = 3", "--requeue", {"attempts": 3}),
        ("retry_on = 75", "--requeue", {"attempts": 2, "retry_on": (75,)}),
        ("nb_proc = 4", "--mem-per-cpu=1G", {"nb_proc": 4, "mem": 4 * GIB}),
        ("nb_proc = 2", "-n 8", {"nb_proc": 2}),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_what_qm_is_told_wins(own: str, slurm: str, meant: dict[str, Any], first: bool) -> None:
    lines = [f"#QM {own}", f"#SBATCH {slurm}"]
    assert script(*(lines if first else reversed(lines))) == meant

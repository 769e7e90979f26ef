"""The environment of a script: whose setting of a variable wins."""

from __future__ import annotations

import pytest

from qm.launchers.base import Start
from qm.launchers.environment import THREAD_VARIABLES, job_variables, parse_kept, script_environment
from qm.spool.paths import JobPaths
from qm.vocabulary.options import Options
from qm.vocabulary.record import Record, Task
from qm.vocabulary.states import State


def record(options: Options | None = None, **values: object) -> Record:
    """A running job of two processors."""
    facts: dict[str, object] = {"nb_proc": 2, "attempt": 3, "options": options or Options(script="true"), **values}
    return Record("abcdefghijkl", "job", "me", State.RUNNING, 0.0, **facts)  # type: ignore[arg-type]


PATHS = JobPaths("/s/QM_Jobs/job")


def start(number: int | None = None, **values: object) -> Start:
    """The third attempt of that job, or of one task of it."""
    return Start(Task("abcdefghijkl", number, 3), 0.0, "", **values)  # type: ignore[arg-type]


def environment(
    base: dict[bytes, bytes] | None = None, kept: dict[bytes, bytes] | None = None, own: dict[str, str] | None = None
) -> dict[bytes, bytes]:
    """What the script of `record()` sees."""
    return script_environment(base or {}, kept or {}, job_variables(record(), start(), PATHS, "/s"), own or {})


def test_a_script_is_told_who_and_where_it_is() -> None:
    seen = environment()
    assert seen[b"QM_JOB_NAME"] == b"job"
    assert seen[b"QM_JOB_ID"] == b"abcdefghijkl"
    assert seen[b"QM_JOB_DIR"] == b"/s/QM_Jobs/job"
    assert seen[b"QM_ATTEMPT"] == b"3"
    assert seen[b"QM_FOLDER"] == b"/s"
    assert seen[b"QM_PROGRESS"] == b"/s/QM_Jobs/job/.qm/run/progress"


def test_the_thread_variables_say_what_nb_proc_says() -> None:
    seen = environment()
    assert {seen[name.encode()] for name in (*THREAD_VARIABLES, "NB_PROC")} == {b"2"}


def test_the_daemons_own_thread_variables_do_not_count() -> None:
    assert environment(base={b"OMP_NUM_THREADS": b"64"})[b"OMP_NUM_THREADS"] == b"2"


def test_the_submitter_and_the_job_may_set_the_thread_variables() -> None:
    assert environment(kept={b"OMP_NUM_THREADS": b"1"})[b"OMP_NUM_THREADS"] == b"1"
    assert environment(kept={b"OMP_NUM_THREADS": b"1"}, own={"OMP_NUM_THREADS": "8"})[b"OMP_NUM_THREADS"] == b"8"


@pytest.mark.parametrize("name", ["QM_JOB_ID", "QM_FOLDER", "NB_PROC"])
def test_nobody_may_change_who_a_job_is(name: str) -> None:
    wrong = {name.encode(): b"wrong"}
    assert environment(wrong, wrong, {name: "wrong"}) == environment()


def test_the_job_wins_over_the_submitter_and_the_submitter_over_the_daemon() -> None:
    seen = environment({b"A": b"0", b"B": b"0", b"C": b"0"}, {b"B": b"1", b"C": b"1"}, {"C": "2"})
    assert (seen[b"A"], seen[b"B"], seen[b"C"]) == (b"0", b"1", b"2")


def test_a_name_that_is_no_utf8_passes_byte_for_byte() -> None:
    odd = b"caf\xe9".decode(errors="surrogateescape")
    variables = job_variables(record()._replace(name=odd), start(), JobPaths(f"/s/{odd}"), "/s")
    seen = script_environment({}, {}, variables, {"X": odd})
    assert (seen[b"QM_JOB_NAME"], seen[b"QM_JOB_DIR"], seen[b"X"]) == (b"caf\xe9", b"/s/caf\xe9", b"caf\xe9")


def test_slurm_variables_are_set_for_scripts_with_sbatch_options_only() -> None:
    assert not [name for name in environment() if name.startswith(b"SLURM_")]
    options = Options(script="job.sh", slurm=True, job_name="mine", ntasks=2)
    variables = job_variables(record(options, nb_proc=6), start(), PATHS, "/s")
    assert variables["SLURM_JOB_ID"] == "abcdefghijkl"
    assert variables["SLURM_JOB_NAME"] == "mine"
    assert variables["SLURM_SUBMIT_DIR"] == "/s/QM_Jobs/job"
    assert (variables["SLURM_NTASKS"], variables["SLURM_CPUS_PER_TASK"]) == ("2", "3")


def test_a_task_of_an_array_knows_its_number_and_its_own_progress_file() -> None:
    options = Options(script="job.sh", slurm=True, array="1-9:2,20")
    variables = job_variables(record(options), start(7), PATHS, "/s")
    assert (variables["QM_ARRAY_TASK_ID"], variables["QM_RUN_ID"]) == ("7", "abcdefghijkl.7")
    assert variables["QM_PROGRESS"] == "/s/QM_Jobs/job/.qm/run/7.progress"
    slurm = {name[12:]: value for name, value in variables.items() if name.startswith("SLURM_ARRAY_")}
    assert slurm == {
        "JOB_ID": "abcdefghijkl",
        "TASK_ID": "7",
        "TASK_COUNT": "6",
        "TASK_MIN": "1",
        "TASK_MAX": "20",
    }
    assert b"QM_ARRAY_TASK_ID" not in environment()


def test_a_job_sees_the_gpus_that_it_was_given_and_no_others() -> None:
    assert "CUDA_VISIBLE_DEVICES" not in job_variables(record(), start(), PATHS, "/s"), "there are none to hand out"
    for gpus, seen in (((1, 3), "1,3"), ((), "")):
        variables = job_variables(record(), start(gpus=gpus), PATHS, "/s")
        assert (variables["CUDA_VISIBLE_DEVICES"], variables["CUDA_DEVICE_ORDER"]) == (seen, "PCI_BUS_ID")


def test_a_kept_environment_is_read_entry_by_entry_and_nonsense_is_left_out() -> None:
    data = b"A=1\0EMPTY=\0WITH=a=b\0MULTI=two\nlines\0BYTES=\xff\0no pair\0=nameless\0\0"
    assert parse_kept(data) == {b"A": b"1", b"EMPTY": b"", b"WITH": b"a=b", b"MULTI": b"two\nlines", b"BYTES": b"\xff"}
    assert parse_kept(b"") == {}

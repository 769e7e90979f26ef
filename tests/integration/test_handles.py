"""qm.submit, qm.jobs, qm.job, and what a handle says and does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TestSpool, until

import qm


@pytest.fixture
def here(spool: TestSpool, monkeypatch: pytest.MonkeyPatch) -> TestSpool:
    """A spool with a daemon, found as a user's program finds it."""
    monkeypatch.setenv("QM_CONFIG", str(spool.config))
    return spool


def test_a_submitted_folder_is_followed_from_the_queue_to_its_end(here: TestSpool) -> None:
    folder = here.make("hello", "echo hello; exit 3", info="greets")
    handle = qm.submit(folder)
    assert (handle.name, len(handle.id), folder.exists()) == ("hello", 12, True)
    assert handle.wait(timeout=30) is handle
    assert (handle.state, handle.ended, handle.exit_status) == ("failed", True, 3)
    assert handle.reason == "exit status 3"
    assert handle.folder == str(here.lost / "hello")
    assert "\nhello\n" in handle.log()
    assert handle.record is not None
    assert handle.record.effective.info == "greets"
    with pytest.raises(qm.JobFailed, match=r"hello: failed: exit status 3; see \S+\nits log ends with") as caught:
        handle.result()
    assert caught.value.folder == handle.folder


def test_a_folder_is_moved_and_named_as_asked(here: TestSpool) -> None:
    folder = here.make("old", "true")
    handle = qm.submit(str(folder), move=True, name="new", config=str(here.config))
    assert handle.wait(30).state == "done"
    assert (handle.name, folder.exists(), handle.result(), handle.progress) == ("new", False, None, (1.0, ""))


def test_a_wrong_folder_is_not_queued(here: TestSpool) -> None:
    with pytest.raises(qm.JobFileError, match="nb_proc = 'twelve' is not understood"):
        qm.submit(here.make("wrong", "true", nb_proc="twelve"))
    with pytest.raises(qm.JobFileError, match="is not a folder"):
        qm.submit(here.root / "nowhere")
    assert qm.jobs() == []


def test_jobs_are_listed_by_state(here: TestSpool) -> None:
    ended = qm.submit(here.make("ended", "true")).wait(30)
    running = qm.submit(here.make("running", "sleep 60"))
    held = qm.submit(here.make("held", "true", hold="yes"))
    until(lambda: running.state == "running" and held.state == "held", "them to be as they should")
    assert qm.jobs() == [running, held, ended]
    assert qm.jobs("active") == [running, held]
    assert qm.jobs("ended") == qm.jobs("done") == [ended]
    assert qm.jobs("held") == [held]
    assert qm.jobs("lost") == []
    with pytest.raises(ValueError, match="'wating' is no state; there are"):
        qm.jobs("wating")


def test_a_job_is_found_by_name_and_by_id(here: TestSpool) -> None:
    handle = qm.submit(here.make("one", "true")).wait(30)
    assert qm.job("one") == qm.job(handle.id) == handle
    assert len({qm.job("one"), handle}) == 1
    assert repr(handle) == f"<qm job one {handle.id} done>"
    with pytest.raises(qm.NoSuchJob, match="no job has the name or id 'unknown'"):
        qm.job("unknown")


def test_what_the_command_line_can_ask_a_handle_can(here: TestSpool) -> None:
    handle = qm.submit(here.make("job", "test -e again || sleep 60", hold="yes"))
    until(lambda: handle.state == "held", "it to be held")
    handle.set(priority=7, info="changed")
    assert handle.record is not None
    assert handle.record.effective.priority == 7
    handle.release()
    until(lambda: handle.state == "running", "it to run")
    handle.pause()
    until(lambda: handle.state == "paused", "it to pause")
    handle.resume()
    until(lambda: handle.state == "running", "it to go on")
    handle.kill()
    assert handle.wait(30).state == "killed"
    assert handle.folder is not None
    Path(handle.folder, "again").touch()
    handle.retry()
    until(lambda: handle.state == "done", "it to be run again")
    handle.delete()
    until(lambda: handle.folder is None, "its folder to go")
    assert (handle.state, handle.log(), handle.reason) == ("done", "", "deleted since; QM_history knows no more")


def test_what_cannot_be_done_in_its_state_is_refused(here: TestSpool) -> None:
    handle = qm.submit(here.make("over", "true")).wait(30)
    with pytest.raises(qm.RequestError, match="over"):
        handle.hold()
    with pytest.raises(qm.RequestError):
        handle.set(nb_proc="three")


def test_without_a_daemon_requests_are_kept_and_said_to_be(
    make_spool: Callable[..., TestSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make_spool()
    monkeypatch.setenv("QM_CONFIG", str(spool.config))
    handle = qm.submit(spool.make("job", "sleep 60"))
    with pytest.raises(qm.TryAgain, match="no QueueManager is running"):
        handle.kill()
    spool.start()
    assert handle.wait(30).state == "killed"


def test_a_job_that_was_taken_out_by_hand_is_gone(here: TestSpool) -> None:
    handle = qm.submit(here.make("taken", "true", hold="yes"))
    until(lambda: handle.state == "held", "it to be held")
    (here.queue / "taken").rename(here.root / "taken")
    with pytest.raises(qm.NoSuchJob, match=r"taken .* is gone"):
        handle.wait(30)
    assert "gone" in repr(handle)


def test_a_folder_that_a_user_renames_among_the_ended_ones_is_known_by_the_history(here: TestSpool) -> None:
    handle = qm.submit(here.make("named", "true")).wait(30)
    (here.done / "named").rename(here.done / "named-and-kept")
    assert (handle.state, handle.folder) == ("done", str(here.done / "named-and-kept"))
    (here.done / "named-and-kept").rename(here.done / "kept")
    assert (handle.state, handle.folder) == ("done", None)


def test_the_log_of_a_task_of_an_array(here: TestSpool) -> None:
    handle = qm.submit(here.make("tasks", "echo task $QM_ARRAY_TASK_ID", array="1-2")).wait(30)
    assert "\ntask 2\n" in handle.log(task=2)
    assert handle.log(task=3) == ""


def test_a_folder_of_an_older_queue_has_no_id_but_a_handle(here: TestSpool) -> None:
    folder = here.make("ancient", "true", where=here.done)
    (folder / "process.log").write_text(
        "Job started by QM at: 2020-01-31T12:00:00\nx\nJob finished at: 2020-01-31T12:00:30 with code 0\n"
    )
    (handle,) = qm.jobs()
    assert (handle.id, handle.name, handle.state, handle.record) == ("", "ancient", "done", None)
    assert handle.result() is None


def test_a_script_in_a_job_sees_the_queue_that_it_runs_in(here: TestSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QM_CONFIG")
    monkeypatch.setenv("QM_FOLDER", str(here.root))
    monkeypatch.setenv("QM_JOB_ID", "aaaaaaaaaaaa")
    handle = qm.submit(here.make("inner", "true"))
    assert handle.wait(30).state == "done"
    monkeypatch.setenv("QM_OWNER", "1 2")
    monkeypatch.chdir(here.root / "made")
    monkeypatch.setenv("QM_CONFIG", str(here.root / "none.cfg"))
    with pytest.raises(qm.ConfigError):
        qm.jobs()

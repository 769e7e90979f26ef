"""Folders that QM 0.4 (or somebody's `rm -r .qm`) left in a spool, without a record: nothing is made up about them."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from harness import TestSpool, lines_of


def test_a_folder_without_a_record_in_qm_jobs_is_lost_and_not_called_done(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    spool.make("old", "touch ran", where=spool.jobs)
    spool.run_until_empty()
    folder = spool.wait_for("old", spool.lost)
    assert spool.record(folder)["state"] == "lost" and not (folder / "ran").exists()


def test_a_running_job_whose_record_was_removed_is_watched_to_its_end(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    spool.start()
    spool.drop("old", f"until [ -e {spool.root}/go ]; do sleep 0.02; done; exit 3")
    folder = spool.wait_running("old")
    job_id = spool.record(folder)["id"]
    spool.stop()
    (folder / ".qm" / "job.json").unlink()
    spool.start()
    (spool.root / "go").touch()
    record = spool.record(spool.wait_for("old", spool.lost))
    assert (record["state"], record["exit_status"], record["id"]) == ("failed", 3, job_id)


def test_old_ended_folders_are_listed_as_they_are(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    spool.make("fine", "true", where=spool.done)
    spool.make("broken", "true", where=spool.lost)
    spool.run_until_empty()
    assert {job["name"]: (job["state"], job["reason"]) for job in spool.status()} == {
        "fine": ("done", "without a record"),
        "broken": ("lost", "without a record"),
    }


def test_an_old_ended_folder_copied_into_the_queue_runs(spool: TestSpool) -> None:
    shutil.copytree(spool.make("old", "echo again", where=spool.done), spool.queue / "old")
    folder = spool.wait_for("old.2", spool.done)
    assert "again" in lines_of(folder / "process.log")

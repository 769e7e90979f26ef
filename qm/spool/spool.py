"""The spool: claims and moves job folders. Nothing else does.

Invariants, which the crash tests prove by killing the daemon at every step named in STEPS:

1. A folder lies in exactly one of the four folders at any moment: every move within QM_FOLDER is one rename.
2. A job is claimed by one rename from QM_qJobs to QM_Jobs, after its record says `running` and which attempt;
   so a folder in QM_Jobs always knows which start mark to look for.
3. An attempt runs only if its start mark could be created exclusively; whoever creates it first (the shim, or
   a restarted daemon that voids the start) decides, once and for all.
4. A job is filed by: record with the end, log line, history line, rename. A daemon that finds the record of an
   end beside a folder not yet moved goes on from there, and adds no line twice.
5. Nothing is overwritten or merged: a name that is taken gets a number.

Only the daemon that holds the spool's lock calls the methods that change something.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator

from qm.spool import crossing, history, joblog
from qm.spool.dot import make_hidden, make_writable, set_aside
from qm.spool.files import TRANSIENT, explained, free_name, is_real_directory, write_whole
from qm.spool.folders import Folders
from qm.spool.paths import JobPaths
from qm.vocabulary.errors import ConfigError, TryAgain
from qm.vocabulary.record import Job, Record, dump
from qm.vocabulary.states import ENDED, PLACE_OF, Place, State

STEPS = (
    "accept: folder made",
    "accept: record written",
    "claim: record written",
    "claim: moved",
    "start: log opened",
    "start: spawned",
    "task: written",
    "task: ended",
    "again: record written",
    "void: marked",
    "unclaim: moved",
    "end: noticed",
    "take out: record written",
    "take out: moved",
    "file: record written",
    "file: log written",
    "file: history written",
    "cross: copied",
    "cross: in view",
    "file: moved",
    "requeue: record written",
    "requeue: moved",
    "delete: hidden",
    "request: obeyed",
)
"""The names of the moments between two file-system operations at which a crash is tried."""


class Spool(Folders):
    """The four folders of one QM_FOLDER, and what is done to them.

    `step` is called at each of STEPS; tests use it to crash there.
    """

    def __init__(self, root: str, failed_to: Place = Place.LOST, step: Callable[[str], None] | None = None) -> None:
        super().__init__(root)
        self.failed_to = failed_to
        self.step = step or _no_step

    # --- the folders ---------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make what is missing and try that a claim is one rename. ConfigError says what prevents it.

        TryAgain: nothing is wrong with the folders, but the disk is full, or the like.
        """
        root = self.paths.root
        if not os.path.isdir(root):
            raise ConfigError(f"QM_FOLDER {root} does not exist; make it, or a whole new spool with `qm init {root}`")
        try:
            for directory in (*self.paths.places.values(), self.paths.requests, self.paths.answers):
                os.makedirs(directory, exist_ok=True)
            self._try_claim()
        except OSError as err:
            text = f"{err.filename or root}: {err.strerror}; the daemon must be able to write there"
            raise (TryAgain if err.errno in TRANSIENT else ConfigError)(text) from err
        mode = os.stat(self.paths.places[Place.QUEUE]).st_mode & 0o777
        if mode & 0o022:  # others may submit: they may ask, too
            with contextlib.suppress(PermissionError):
                os.chmod(self.paths.requests, 0o1000 | mode)

    def _try_claim(self) -> None:
        queue, jobs = self.paths.places[Place.QUEUE], self.paths.places[Place.JOBS]
        probe = f"/.qm-probe.{os.getpid()}"
        with contextlib.suppress(FileExistsError):  # left by a daemon that was killed here; in containers pids repeat
            os.mkdir(queue + probe)
        try:
            os.rename(queue + probe, jobs + probe)
            os.rename(jobs + probe, queue + probe)
        except OSError as err:
            if err.errno == errno.EXDEV:
                text = f"{queue} and {jobs} are on different file systems; a job is claimed by one rename between them"
                raise ConfigError(text) from err
            raise
        finally:
            os.rmdir(queue + probe)

    # --- records -------------------------------------------------------------------------------------------

    def save(self, job: Job) -> None:
        """Write the record of a job where it lies."""
        paths = self.files(job)
        with explained(f"cannot write the record of {job.folder}"):
            if not is_real_directory(paths.dot):
                make_hidden(paths)
            try:
                write_whole(paths.record, dump(job.record))
            except PermissionError:
                make_writable(paths.dot)
                write_whole(paths.record, dump(job.record))

    # --- the way of a job ----------------------------------------------------------------------------------

    def accept(self, folder: str, record: Record, again: bool = False) -> Job:
        """A complete folder in QM_qJobs becomes a job: its hidden folder is made, its record written.

        A record that lies there already belongs to a job that ended before, or was copied: it is set aside,
        unless the same job is accepted `again` after a change.
        """
        paths = self.paths.job(Place.QUEUE, folder)
        job = Job(Place.QUEUE, folder, record)
        with explained(f"cannot write into {folder} (owner {record.owner})"):
            if not again:
                set_aside(paths)
            make_hidden(paths)
        self.step("accept: folder made")
        self.save(job)
        self.step("accept: record written")
        return job

    def claim(self, job: Job) -> Job:
        """Take a job into QM_Jobs; `job.record` is already the running one. On failure it stays in QM_qJobs."""
        self.keep_hidden(job)
        self.save(job)
        self.step("claim: record written")
        claimed = self._move(job, Place.JOBS)
        self.step("claim: moved")
        return claimed

    def keep_hidden(self, job: Job) -> None:
        """What is about to be started needs `.qm/run`, which a task before it may have removed."""
        if not is_real_directory(self.files(job).run):
            with explained(f"cannot write into {job.folder} (owner {job.record.owner})"):
                make_hidden(self.files(job))

    def unclaim(self, job: Job) -> Job:
        """Put a job whose script was not started back into QM_qJobs. Its record is saved by the caller, there."""
        back = self._move(job, Place.QUEUE)
        self.step("unclaim: moved")
        return back

    def void(self, paths: JobPaths, label: str) -> bool:
        """Create the start mark ourselves: if that succeeds the script has not begun, and now never will. OSError."""
        mark = paths.start_mark(label)
        try:
            os.makedirs(os.path.dirname(mark), exist_ok=True)
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        except FileExistsError:
            return False
        self.step("void: marked")
        return True

    def take_out(self, job: Job) -> Job:
        """A job that ended before it ran goes to QM_Jobs, and is filed from there like any other.

        So a folder in QM_qJobs with the record of an end that the history knows was always put there to run again.
        """
        self.save(job)
        self.step("take out: record written")
        taken = self._move(job, Place.JOBS)
        self.step("take out: moved")
        return taken

    def file_away(self, job: Job, code: str) -> Job:
        """File an ended job: `job.record` has the end, `code` is how process.log says it."""
        record = job.record
        if record.state not in ENDED:
            raise ValueError(f"{record.state} is no end")
        self.save(job)
        self.step("file: record written")
        paths = self.files(job)
        with explained(f"cannot write to the log of {job.folder}"):
            if record.started is not None:
                joblog.finish(paths.log, record.finished or 0.0, code)
        self.step("file: log written")
        return self._complete_filing(job)

    def resume_filing(self, job: Job, code: str) -> Job:
        """Go on with a filing that a crash interrupted: nothing that was done is done again."""
        with explained(f"cannot write to the log of {job.folder}"):
            if job.record.started is not None:
                joblog.finish(self.files(job).log, job.record.finished or 0.0, code)
        if history.contains(self.paths.history, job.record):
            twin = self._twin(job)
            if twin is not None:  # a copy across file systems was complete: the ended one stays
                self._discard(job)
                return twin
            return self._move(job, self._destination(job.record.state))
        return self._complete_filing(job)

    def was_being_filed(self, record: Record) -> bool:
        """Is this the record of an end that the history does not know yet?"""
        try:
            return record.state in ENDED and not history.contains(self.paths.history, record)
        except OSError:
            return True  # filing it goes on when the history can be read; to run it again would be worse

    def _complete_filing(self, job: Job) -> Job:
        with explained("cannot write the history"):
            history.append(self.paths.history, job.record)
        self.step("file: history written")
        filed = self._move(job, self._destination(job.record.state))
        self.step("file: moved")
        return filed

    def adopt(self, job: Job) -> None:
        """Give an ended folder that has no record (QM 0.4's) the one given; an unreadable one is set aside."""
        paths = self.files(job)
        with explained(f"cannot write into {job.folder} (owner {job.record.owner})"):
            set_aside(paths)
            make_hidden(paths)
        self.save(job)

    def requeue(self, job: Job) -> Job:
        """Bring an ended job back into QM_qJobs, with the waiting record given."""
        self.save(job)
        self.step("requeue: record written")
        back = self._move(job, Place.QUEUE)
        self.step("requeue: moved")
        return back

    def delete(self, job: Job) -> str:
        """Take a job out of sight at once; the hidden path returned is to be removed when there is time."""
        hidden = f"{self.paths.places[job.place]}/.qm-deleted.{job.record.id}"
        shutil.rmtree(hidden, ignore_errors=True)  # what a crash left
        with explained(f"cannot delete {job.folder}"):
            os.rename(self.files(job).dir, hidden)
        self.step("delete: hidden")
        return hidden

    def leftovers(self) -> Iterator[str]:
        """What deletions and crashes left: hidden folders that nobody will ask for."""
        for directory in self.paths.places.values():
            for name in os.listdir(directory):
                if name.startswith((".qm-deleted.", ".qm-probe.")):
                    yield f"{directory}/{name}"

    # --- below ---------------------------------------------------------------------------------------------

    def _destination(self, state: State) -> Place:
        return self.failed_to if state is State.FAILED else PLACE_OF[state]

    def _move(self, job: Job, place: Place) -> Job:
        """Rename into another of the four folders; copy only where that is another file system."""
        source, directory = self.files(job).dir, self.paths.places[place]
        wanted = job.record.name if place is not Place.QUEUE else job.folder
        folder = free_name(directory, wanted)
        with explained(f"cannot move {source} to {directory} (owner {job.record.owner})"):
            try:
                os.rename(source, f"{directory}/{folder}")
            except PermissionError:
                make_writable(source)
                os.rename(source, f"{directory}/{folder}")
            except OSError as err:
                if err.errno != errno.EXDEV or place is Place.JOBS:
                    raise
                if place is Place.QUEUE:
                    hidden = crossing.hide_returning(source)
                    try:
                        crossing.copy_across(hidden, directory, folder, self.step)
                    except OSError:
                        os.rename(hidden, source)
                        raise
                    shutil.rmtree(hidden, ignore_errors=True)
                else:
                    crossing.copy_across(source, directory, folder, self.step)
                    self._discard(job)
        return Job(place, folder, job.record)

    def settle_returns(self, knows: Callable[[str], bool]) -> None:
        """Folders that a crash left on their way back into the queue: removed if they arrived, else shown again."""
        for place in (Place.DONE, Place.LOST):
            directory = self.paths.places[place]
            for name in [name for name in os.listdir(directory) if name.startswith(crossing.RETURNING)]:
                record = self.record(place, name)
                if record is None or knows(record.id):  # without a record: the removing had begun
                    shutil.rmtree(f"{directory}/{name}", ignore_errors=True)
                else:
                    os.rename(f"{directory}/{name}", f"{directory}/{free_name(directory, record.name)}")

    def _discard(self, job: Job) -> None:
        """Remove what was copied elsewhere. Out of sight first: half a folder must never look like a job."""
        shutil.rmtree(self.delete(job), ignore_errors=True)

    def _twin(self, job: Job) -> Job | None:
        """The same job, already under its name in the place it is to be filed in."""
        place = self._destination(job.record.state)
        base = job.record.name
        with os.scandir(self.paths.places[place]) as entries:
            near = [entry.name for entry in entries if entry.name == base or entry.name.startswith(f"{base}.")]
        for folder in near:
            record = self.record(place, folder)
            if record is not None and (record.id, record.finished) == (job.record.id, job.record.finished):
                return Job(place, folder, record)
        return None


def _no_step(_name: str) -> None:
    """Production takes no steps between steps."""

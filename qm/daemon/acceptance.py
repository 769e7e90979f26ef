"""Acceptance: complete folders in QM_qJobs become jobs, or are filed as invalid.

Invariant: what is wrong with a job is told three times: in its log, in its record and in the daemon's log. When the
system is in the way, the folder stays as it was, and the same job is accepted later.
"""

from __future__ import annotations

import errno
import logging
import time

from qm.daemon.queue import Over, Queue
from qm.judgement.contradictions import doubtful, impossible
from qm.judgement.delays import begin_at
from qm.judgement.reasons import own_hindrance
from qm.spool import joblog
from qm.spool.files import TRANSIENT, read_regular
from qm.spool.ids import new_id
from qm.spool.spool import Spool
from qm.vocabulary.config import Settings
from qm.vocabulary.errors import Blocked, JobFileError, TryAgain
from qm.vocabulary.jobfile import MAX_JOB_FILE, JobFile, read_job_file
from qm.vocabulary.record import Job, Record, Survey
from qm.vocabulary.states import Event, Place, State, after


class NoJobFile(Exception):
    """The job file that was seen is not there any more."""


class Acceptance:
    """Makes jobs of folders. `former` are the records of folders that were jobs before they were changed."""

    def __init__(self, settings: Settings, spool: Spool, queue: Queue, log: logging.Logger) -> None:
        self.settings = settings
        self.former: dict[str, Record] = {}
        self._spool = spool
        self._queue = queue
        self._log = log

    def admit(self, name: str, tree: Survey) -> None:
        """A complete folder becomes a job, or is filed as invalid.

        NoJobFile; Blocked, TryAgain, OSError: the system is in the way.
        """
        try:
            job_file = self._read(self._spool.paths.job(Place.QUEUE, name).dir)
            self._accept(name, tree, job_file)
        except JobFileError as err:
            self.reject(name, str(err), tree)

    def read_again(self, job: Job, record: Record) -> Record:
        """The record of an ended job with what its job file says by now: a mended one may be why it is run again.

        Where there is none any more, what it said counts. JobFileError, OSError.
        """
        try:
            job_file = self._read(self._spool.files(job).dir)
        except NoJobFile:
            return record
        record = record._replace(job_file=job_file.name, options=job_file.options)
        options = record.effective
        if why := impossible(options, self._queue.limits):
            raise JobFileError("; ".join(why))
        notes = (*job_file.notes, *doubtful(options, self._queue.limits, record.name, time.time()))
        return record._replace(notes=notes, nb_proc=min(options.nb_proc, self._queue.limit))

    def _accept(self, name: str, tree: Survey, job_file: JobFile) -> None:
        """JobFileError for what can never start."""
        former = self.former.get(name)
        options = job_file.options
        if former is not None:
            options = former._replace(options=options).effective
        if why := impossible(options, self._queue.limits):
            raise JobFileError("; ".join(why))
        released = former is not None and former.effective.hold  # it was held once, and would not start otherwise
        event = Event.ACCEPT_HELD if options.hold and not released else Event.ACCEPT
        record = former or self._new_record(name)
        record = record._replace(
            state=after(State.ARRIVING, event),
            reason="",
            not_before=begin_at(options.begin, record.submitted),
            after=(),
            nb_proc=min(options.nb_proc, self._queue.limit),
            job_file=job_file.name,
            options=job_file.options,
            notes=(*job_file.notes, *doubtful(options, self._queue.limits, name, time.time())),
            tree=tree,
        )
        record = record._replace(reason=own_hindrance(record))
        job = self._spool.accept(name, record, again=former is not None)
        self.former.pop(name, None)
        self._queue.wait(job)
        self._queue.came.append(job.record.id)
        self._log.debug("%s (%s) accepted as %s", name, job.record.id, job.record.state)

    def reject(self, name: str, reason: str, tree: Survey | None = None) -> None:
        """File a folder as invalid. Blocked, TryAgain, OSError: the system is in the way."""
        former = self.former.get(name) or self._new_record(name)
        record = former._replace(
            state=after(State.ARRIVING, Event.REJECT),
            reason=reason,
            finished=time.time(),
            tree=tree or Survey(),
        )
        job = self._spool.accept(name, record, again=name in self.former)
        self.former[name] = record  # should this have to be tried again, it is the same job
        joblog.note(self._spool.files(job).log, f"this job is invalid: {reason}")
        job = self._spool.take_out(job)
        del self.former[name]
        self._queue.ended.append(Over(job.record.id, job.record.state, job.record.name))
        try:
            filed = self._spool.file_away(job, "")
        except (Blocked, TryAgain, OSError) as err:
            self._queue.unfiled.append((job, ""))
            self._log.error("%s is invalid: %s; it cannot be filed yet: %s", name, reason, err)
            return
        self._log.error("%s is invalid: %s; filed as %s/%s", name, reason, filed.place, filed.folder)

    def _new_record(self, name: str) -> Record:
        owner = self._spool.owner(Place.QUEUE, name)
        given = self._spool.given_id(name)
        job_id = given if given is not None and not self._queue.knows(given) else new_id()
        return Record(job_id, name, owner, State.ARRIVING, submitted=time.time())

    def _read(self, directory: str) -> JobFile:
        """Read the first job file there is. JobFileError, NoJobFile, OSError."""
        for candidate in self.settings.job_files:
            try:
                data = read_regular(f"{directory}/{candidate}", MAX_JOB_FILE + 1)
            except FileNotFoundError:
                continue
            except OSError as err:
                if err.errno in TRANSIENT:
                    raise
                raise JobFileError(f"{candidate}: {_why_unreadable(err)}") from err
            return read_job_file(candidate, data)
        raise NoJobFile(directory)


def _why_unreadable(err: OSError) -> str:
    if err.errno in (errno.ELOOP, errno.EMLINK):
        return "is a symbolic link, which QM does not follow; put the file itself into the folder"
    if err.errno == errno.EACCES:
        return "may not be read by the daemon; `chmod a+r` it"
    return f"cannot be read: {err.strerror}"

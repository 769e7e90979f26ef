"""Every error QM raises on purpose.

    QMError                 something went wrong that the user can be told in one sentence
    ├── JobFileError        a job file cannot be read or says something impossible
    ├── ConfigError         QMserv.cfg is wrong                      (exit status 78, EX_CONFIG)
    ├── RequestError        a request cannot be obeyed               (exit status 1)
    │   └── NoSuchJob       no job has that name or id               (exit status 66, EX_NOINPUT)
    ├── Blocked             a folder may not be moved or written     (it stays where it is)
    └── TryAgain            not now: locked, full, out of descriptors (exit status 75, EX_TEMPFAIL)

The text of each says what happened, to what, and what to do. Exit statuses are those of sysexits(3).
"""

from __future__ import annotations

EX_DONE = 0
EX_FAILED = 1
EX_USAGE = 2
EX_NOINPUT = 66
EX_TEMPFAIL = 75
EX_CONFIG = 78


class QMError(Exception):
    """Root of all errors that are told to a user in one sentence; `exit_status` is what a command ends with."""

    exit_status = EX_FAILED


class JobFileError(QMError):
    """A job file cannot be read, or one of its values is impossible."""


class ConfigError(QMError):
    """QMserv.cfg, or the folders it names, cannot be used as they are."""

    exit_status = EX_CONFIG


class RequestError(QMError):
    """A request cannot be obeyed in the job's present state, or not for this user."""


class NoSuchJob(RequestError):
    """No job is known under that name or id."""

    exit_status = EX_NOINPUT


class Blocked(QMError):
    """The system does not let QM move or write this folder; it stays where it is and blocks nothing."""


class TryAgain(QMError):
    """The moment is wrong, not the job: another daemon, a full disk, no file descriptors left."""

    exit_status = EX_TEMPFAIL

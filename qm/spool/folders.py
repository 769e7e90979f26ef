"""The four folders of a spool, looked at: which jobs lie in them, whose they are, what their records say.

Invariant: nothing here changes anything.
"""

from __future__ import annotations

import os
import stat

from qm.judgement.arrival import marks_a_copy
from qm.spool.dot import MAX_RECORD
from qm.spool.files import SHORT, exists, is_real_directory, owner_of, read_regular
from qm.spool.ids import is_id
from qm.spool.paths import JobPaths, SpoolPaths
from qm.vocabulary.errors import TryAgain
from qm.vocabulary.record import Job, Record, load
from qm.vocabulary.states import Place


class Folders:
    """The folders of one QM_FOLDER."""

    def __init__(self, root: str) -> None:
        self.paths = SpoolPaths(root)
        self._owners: dict[int, str] = {}

    def folders(self, place: Place) -> tuple[list[str], list[str]]:
        """The names that may be jobs, and those that are not: files, links, copies in progress (none hidden)."""
        jobs: list[str] = []
        strangers: list[str] = []
        with os.scandir(self.paths.places[place]) as entries:
            for entry in entries:
                if not marks_a_copy(entry.name) and entry.is_dir(follow_symlinks=False):
                    jobs.append(entry.name)
                elif not entry.name.startswith("."):
                    strangers.append(entry.name)
        return jobs, strangers

    def files(self, job: Job) -> JobPaths:
        """The names of a job's files."""
        return self.paths.job(job.place, job.folder)

    def is_there(self, place: Place, folder: str) -> bool:
        """Is there a folder (not a link) of that name? Where nobody can say, it is taken to be there."""
        try:
            return stat.S_ISDIR(os.lstat(f"{self.paths.places[place]}/{folder}").st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a file server that is away must not end what runs
            return True

    def owner(self, place: Place, folder: str) -> str:
        """Who owns the folder on disk, by name."""
        uid = os.lstat(f"{self.paths.places[place]}/{folder}").st_uid
        if uid not in self._owners:
            self._owners[uid] = owner_of(uid)
        return self._owners[uid]

    def given_id(self, folder: str) -> str | None:
        """The id that `qm submit` chose for a folder, so that it can tell it at once; None if there is none."""
        paths = self.paths.job(Place.QUEUE, folder)
        try:
            text = read_regular(paths.given_id, 64).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if is_id(text) and not exists(paths.record) else None

    def record(self, place: Place, folder: str) -> Record | None:
        """The record in a folder; None if there is none that can be read."""
        paths = self.paths.job(place, folder)
        if not is_real_directory(paths.dot):
            return None
        try:
            record = load(read_regular(paths.record, MAX_RECORD))
            return record if record is not None and not marks_a_copy(record.name) else None
        except FileNotFoundError:
            return None
        except OSError as err:
            if err.errno in SHORT:
                raise TryAgain(f"cannot read the record of {folder}: {err.strerror}") from err
            return None

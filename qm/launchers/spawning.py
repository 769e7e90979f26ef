"""Beginning a run: its log, its environment, its processors, and the shim that is spawned for it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Sequence

from qm.launchers.affinity import pin_spawned
from qm.launchers.base import Start
from qm.launchers.environment import job_variables, parse_kept, script_environment
from qm.launchers.shim import SHELL, command_words, shim_words, stream_notes, streams
from qm.spool import joblog
from qm.spool.files import TRANSIENT, exists, explained, read_regular
from qm.spool.paths import JobPaths
from qm.vocabulary.errors import JobFileError, TryAgain
from qm.vocabulary.record import Job

MAX_ENVIRONMENT = 4 << 20

_DEFAULT_AGAIN = sorted(signal.valid_signals() - {getattr(signal, "SIGKILL", 0), getattr(signal, "SIGSTOP", 0)})
"""What a daemon started by nohup, a shell or Python itself ignores, its jobs must not."""


class Spawner:
    """Spawns shims. `root` is QM_FOLDER, `boot` what tells this boot of the machine from others."""

    def __init__(self, root: str, boot: str, step: Callable[[str], None] | None) -> None:
        self._root = root
        self._boot = boot
        self._step = step
        self._null = os.open(os.devnull, os.O_RDWR)
        self._base = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}

    def close(self) -> None:
        """Give the descriptor back; nothing is begun any more."""
        os.close(self._null)

    def begin(self, job: Job, paths: JobPaths, start: Start, groups: Sequence[str]) -> int:
        """Begin a claimed job, or one of its tasks; returns the shim's pid. Errors as for Launcher.start."""
        record, task = job.record, start.task
        options = record.effective
        log = self._open_log(job, paths, start)
        if self._step is not None:
            self._step("start: log opened")
        try:
            command = command_words(options, paths.dir)
            mark = f"{self._boot} {task.key}"
            words = shim_words(paths.dir, task.label, mark, streams(record, task), options.chdir, command, groups)
            pid = self._spawn(words, self._environment(job, paths, start), log)
            begun = paths.start_mark(task.label)  # there before the shim spawns anything
            pin_spawned(pid, start.processors, lambda: exists(begun))
            return pid
        except OSError as err:
            if not start.appends:  # tried again and again, it would leave a log each time
                with contextlib.suppress(OSError):
                    os.unlink(paths.task_log(task.number))
            if err.errno == errno.E2BIG:
                text = "the script or its environment is longer than the system allows; put the script into a file"
                raise JobFileError(text) from err
            raise TryAgain(f"cannot start {job.folder}: {err.strerror}") from err
        except ValueError as err:  # a record that QM did not write: the job file's readers let no such text pass
            raise JobFileError(f"no words for a program: {err}") from err
        finally:
            os.close(log)

    def _open_log(self, job: Job, paths: JobPaths, start: Start) -> int:
        task = start.task
        own = stream_notes(job.record, task)
        notes = own if start.appends or task.number is not None else [*job.record.notes, *own]
        if start.gpus == () and job.record.effective.gpus == 0:
            notes = [*notes, "no GPUs were asked for (key gpus), so CUDA_VISIBLE_DEVICES is empty"]
        log = paths.task_log(task.number)
        with explained(f"cannot write the log of {job.folder}"):
            opened = joblog.open_again(log, start.started) if start.appends else None
            if opened is None:
                opened = joblog.open_new(log, start.started, notes)
        if task.attempt > 1:
            with contextlib.suppress(OSError):
                os.unlink(paths.task_progress(task.number))  # it was an earlier attempt's
        return opened

    def _spawn(self, words: list[str], environment: dict[bytes, bytes], log: int) -> int:
        actions = [
            (os.POSIX_SPAWN_DUP2, self._null, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        try:
            return os.posix_spawn(
                SHELL,
                words,
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=_DEFAULT_AGAIN,
            )
        except NotImplementedError:  # a C library without POSIX_SPAWN_SETSID
            import subprocess

            spawned = subprocess.Popen(
                words, env=environment, stdin=self._null, stdout=log, stderr=log, start_new_session=True
            )
            spawned.returncode = 0  # we reap it ourselves
            return spawned.pid

    def _environment(self, job: Job, paths: JobPaths, start: Start) -> dict[bytes, bytes]:
        kept: dict[bytes, bytes] = {}
        base = self._base
        try:
            kept = parse_kept(read_regular(paths.environment, MAX_ENVIRONMENT))
            base = {}
        except FileNotFoundError:
            pass  # it came as a folder: it runs in the daemon's
        except OSError as err:
            if err.errno in TRANSIENT:
                raise
            raise JobFileError(f".qm/env, the environment to run in, cannot be read: {err.strerror}") from err
        variables = job_variables(job.record, start, paths, self._root)
        return script_environment(base, kept, variables, dict(job.record.effective.env))

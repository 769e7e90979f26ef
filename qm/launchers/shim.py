"""The shim: a few lines of POSIX sh around every script, and the words it is called with. Pure text.

It stands on its own: when the daemon dies, the shim still waits for the script and leaves its exit status.

Invariants: the start mark is created exclusively before the script begins, so no attempt begins twice; the
exit mark is complete when it ends in a newline, so a reader can tell a status from half of one.

`trap :` lets the shim outlive a TERM that is meant for the script, and unlike `trap ''` it is not inherited
by the script (POSIX, sh, 2.14 "trap": traps that are caught are reset in children, ignored ones stay).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from qm.vocabulary.options import Options
from qm.vocabulary.record import Record, Task

SHELL = "/bin/sh"

TEXT = """\
cd -- "$1" || exit 72
qm_run=.qm/run/$2
trap : HUP INT TERM USR1 USR2
[ -e "$qm_run.start" ] && exit 70
set -C
echo "$$ $3" >"$qm_run.start" || exit 70
set +C
qm_dir=$4 qm_out=$5 qm_err=$6 qm_groups=$7
shift 7
while [ "$qm_groups" -gt 0 ]; do echo "$$" 2>/dev/null >"$1"; qm_groups=$((qm_groups - 1)); shift; done
if [ "$qm_dir$qm_out$qm_err" ]; then (
    cd -- "${qm_dir:-.}" || exit
    if [ "$qm_out" ]; then exec >"$qm_out" || exit; fi
    if [ "$qm_err" = "$qm_out" ]; then exec 2>&1; elif [ "$qm_err" ]; then exec 2>"$qm_err" || exit; fi
    exec "$@"
); else "$@"; fi
set -- $?
until echo "$1" 2>/dev/null >"$qm_run.exit" || ! [ -d .qm/run ]; do
    [ -w .qm/run ] || chmod u+rwx .qm .qm/run 2>/dev/null || break
    sleep 1
done
exit "$1"
"""
"""Arguments: the job's folder, the label of the task, what to write behind the pid in the start mark, the directory
to run in ("" for the job's folder), files for the two streams ("" for process.log), how many files of control groups
want the shim's pid and those files, then the command's words.
On a full disk it waits with the status until there is room, or the folder is gone. A folder that the script made
read-only is made writable again as far as the mark needs it."""

NOT_BEGUN = (70, 72)
"""How the shim itself ends, without an exit mark, when it could not begin the script: no start mark could be
made (EX_SOFTWARE), no such folder (EX_OSFILE)."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+,:@%^")

_SHELL_WORDS = frozenset(
    "! { } case do done elif else esac fi for if in then until while function select time coproc "
    ". : alias bg bind break builtin caller cd chdir command compgen complete continue declare dirs disown echo "
    "enable eval exec exit export false fc fg getopts hash help history jobs kill let local logout mapfile popd "
    "printf pushd pwd read readarray readonly return set shift shopt source suspend test times trap true type "
    "typeset ulimit umask unalias unset wait".split()
)
"""Reserved words and built-ins of the usual shells: only a shell knows what they mean."""


def command_words(options: Options, job_dir: str) -> list[str]:
    """The words to run for a job.

    job.sh goes to its interpreter. A command goes to `/bin/sh -c`, but for a plain one, words that no shell
    would change and that name a program: that is run directly, as make(1) does, which saves a process.
    """
    if options.interpreter:
        return [*options.interpreter, f"{job_dir}/{options.script}"]
    words = options.script.split(" ")
    plain = _PLAIN.issuperset(options.script.replace(" ", ""))
    if plain and all(words) and words[0] not in _SHELL_WORDS:
        return words
    return [SHELL, "-c", options.script]


def streams(record: Record, task: Task) -> tuple[str, str]:
    """The files for standard output and error, "" where it is the log; relative to the directory it runs in.

    In an array %a stands for the task's number. With #SBATCH options, error follows output, and %j, %A, %x and %%
    stand for id and name, too (sbatch(1)).
    """
    options = record.effective
    names = {} if task.number is None else {"a": str(task.number)}
    if options.slurm:
        names |= {"j": record.id, "A": record.id, "x": options.job_name or record.name, "%": "%"}
    output, error = _with_names(options.output, names), _with_names(options.error, names)
    return output, error or (output if options.slurm else "")


def stream_notes(record: Record, task: Task) -> list[str]:
    """What the log says about streams that go elsewhere."""
    output, error = streams(record, task)
    named = (("standard output", output), ("standard error", error))
    return [f"{stream} goes to {file}" for stream, file in named if file]


def _with_names(pattern: str, names: Mapping[str, str]) -> str:
    return re.sub("%(.)", lambda found: names.get(found[1], found[0]), pattern) if pattern and names else pattern


def shim_words(
    job_dir: str,
    label: str,
    mark: str,
    files: tuple[str, str],
    chdir: str,
    command: Sequence[str],
    groups: Sequence[str] = (),
) -> list[str]:
    """The argument vector of the shim. `mark` is kept in the start mark behind the shim's pid; `groups` are files
    of control groups that want its pid (cgroups(7))."""
    return [SHELL, "-c", TEXT, "qm-shim", job_dir, label, mark, chdir, *files, str(len(groups)), *groups, *command]

"""The shim around every script, run by the shells of this machine, and the words it is called with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import lines_of, until

from qm.launchers.shim import NOT_BEGUN, SHELL, command_words, shim_words
from qm.vocabulary.options import Options

SHELLS = {name: words for name, *words in (("sh", "/bin/sh"), ("dash", "dash"), ("bash", "bash", "--posix"))}
SHELLS = {name: words for name, words in SHELLS.items() if shutil.which(words[0])}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """Whatever may be behind /bin/sh."""
    return SHELLS[request.param]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder as the daemon leaves it before the start; its name is none that is easy to quote."""
    made = tmp_path / '-it\'s a "job"\n$HOME *'
    (made / ".qm" / "run").mkdir(parents=True)
    return made


def start(
    shell: list[str],
    folder: Path,
    *command: str,
    chdir: str = "",
    files: tuple[str, str] = ("", ""),
    groups: tuple[str, ...] = (),
) -> subprocess.Popen[str]:
    """The shim, as the launcher starts it but for the shell."""
    words = shim_words(str(folder), "1", "boot id", files, chdir, command, groups)
    assert words[0] == SHELL
    return subprocess.Popen(
        [*shell, *words[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(shim: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and what was printed."""
    output, _ = shim.communicate(timeout=30)
    return shim.returncode, output


def script(text: str) -> tuple[str, ...]:
    """The command of a job with this script."""
    return (SHELL, "-c", text)


def exit_mark(folder: Path) -> str:
    """What the shim left."""
    return (folder / ".qm" / "run" / "1.exit").read_text()


# --- marks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 143, 255])
def test_the_status_of_the_script_is_left_in_the_exit_mark(status: int, shell: list[str], folder: Path) -> None:
    assert end(start(shell, folder, *script(f"exit {status}"))) == (status, "")
    assert exit_mark(folder) == f"{status}\n"


def test_the_start_mark_is_there_before_the_script_and_says_who_made_it(shell: list[str], folder: Path) -> None:
    shim = start(shell, folder, "cat", ".qm/run/1.start")
    assert end(shim) == (0, f"{shim.pid} boot id\n")


def test_a_shim_that_finds_a_start_mark_runs_nothing(shell: list[str], folder: Path) -> None:
    (folder / ".qm" / "run" / "1.start").touch()
    assert end(start(shell, folder, "touch", "ran"))[0] in NOT_BEGUN
    assert not (folder / "ran").exists()
    assert not (folder / ".qm" / "run" / "1.exit").exists()


def test_of_many_shims_for_one_attempt_one_runs(shell: list[str], folder: Path) -> None:
    shims = [start(shell, folder, *script("echo ran >> ledger")) for _ in range(8)]
    statuses = sorted(end(shim)[0] for shim in shims)
    assert statuses[0] == 0 and set(statuses[1:]) <= set(NOT_BEGUN)
    assert lines_of(folder / "ledger") == ["ran"]


def test_a_shim_whose_folder_is_gone_runs_nothing(shell: list[str], folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder)
    assert end(start(shell, folder, "touch", str(tmp_path / "ran")))[0] in NOT_BEGUN
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_moved_meanwhile_gets_its_exit_mark(shell: list[str], folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shim = start(shell, folder, *script("echo > begun; until [ -e go ]; do sleep 0.02; done; exit 3"))
    until((folder / "begun").exists)
    folder.rename(moved)
    (moved / "go").touch()
    assert end(shim)[0] == 3
    assert exit_mark(moved) == "3\n"


def test_a_script_that_removes_its_folder_ends(shell: list[str], folder: Path) -> None:
    assert end(start(shell, folder, *script('rm -rf "$PWD"; exit 4')))[0] == 4
    assert not folder.exists()


def test_a_status_that_cannot_be_written_yet_is_not_forgotten(shell: list[str], folder: Path) -> None:
    in_the_way = folder / ".qm" / "run" / "1.exit"
    in_the_way.mkdir()
    shim = start(shell, folder, *script("echo > begun; exit 9"))
    until((folder / "begun").exists)
    assert shim.poll() is None
    in_the_way.rmdir()
    assert end(shim)[0] == 9
    assert exit_mark(folder) == "9\n"


# --- signals -------------------------------------------------------------------------------------------------

WAITS = "echo > begun; until [ -e go ]; do sleep 0.02; done; exit 5"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_meant_for_the_script_does_not_end_the_shim(number: int, shell: list[str], folder: Path) -> None:
    shim = start(shell, folder, *script(WAITS))
    until((folder / "begun").exists)
    shim.send_signal(number)
    (folder / "go").touch()
    assert end(shim)[0] == 5
    assert exit_mark(folder) == "5\n"


def test_the_script_is_not_made_immune_by_that(shell: list[str], folder: Path) -> None:
    shim = start(shell, folder, *script("echo $$ > begun; while :; do sleep 0.02; done"))
    until(lambda: lines_of(folder / "begun"))
    os.kill(int(lines_of(folder / "begun")[0]), signal.SIGTERM)
    assert end(shim)[0] == 143
    assert exit_mark(folder) == "143\n"


def test_a_script_may_set_traps_of_its_own(shell: list[str], folder: Path) -> None:
    text = "trap 'echo saved > saved; exit 0' TERM; echo $$ > begun; while :; do sleep 0.02; done"
    shim = start(shell, folder, *script(text))
    until(lambda: lines_of(folder / "begun"))
    os.kill(int(lines_of(folder / "begun")[0]), signal.SIGTERM)
    assert end(shim)[0] == 0
    assert (folder / "saved").exists()


# --- where and with what -------------------------------------------------------------------------------------


def test_words_reach_the_command_as_they_are(shell: list[str], folder: Path) -> None:
    words = ["a b", "'", '"', "two\nlines", "*", "$HOME", "", "-n", "%s", "\\", "`id`", "ä"]
    status, output = end(start(shell, folder, sys.executable, "-c", "import sys; print(sys.argv[1:])", *words))
    assert (status, output) == (0, f"{words}\n")


def test_the_script_runs_in_the_folder_of_the_job(shell: list[str], folder: Path) -> None:
    assert end(start(shell, folder, "pwd")) == (0, f"{folder}\n")


@pytest.mark.parametrize("relative", [True, False])
def test_the_script_runs_in_chdir_and_its_marks_stay_with_the_job(
    relative: bool, shell: list[str], folder: Path
) -> None:
    place = folder / "a place"
    place.mkdir()
    assert end(start(shell, folder, "pwd", chdir="a place" if relative else str(place))) == (0, f"{place}\n")
    assert exit_mark(folder) == "0\n"


def test_a_directory_that_is_not_there_is_a_failure_of_the_job(shell: list[str], folder: Path) -> None:
    status, output = end(start(shell, folder, "touch", "ran", chdir="no/such/place"))
    assert status != 0 and "no/such/place" in output
    assert exit_mark(folder) == f"{status}\n"
    assert not (folder / "ran").exists()


def test_the_streams_go_to_files_where_that_is_wanted(shell: list[str], folder: Path) -> None:
    both = script("echo out; echo err >&2")
    assert end(start(shell, folder, *both, files=("to this", "to that"))) == (0, "")
    assert (lines_of(folder / "to this"), lines_of(folder / "to that")) == (["out"], ["err"])


def test_the_shim_enters_its_control_groups_and_one_that_does_not_let_it_in_is_no_failure(
    shell: list[str], folder: Path, tmp_path: Path
) -> None:
    group = tmp_path / "cgroup.procs"
    group.touch()
    groups = (str(tmp_path / "there/is/none"), str(group))
    shim = start(shell, folder, *script("echo ran"), groups=groups)
    assert end(shim) == (0, "ran\n")
    assert group.read_text() == f"{shim.pid}\n"


def test_both_streams_go_to_one_file_in_their_order(shell: list[str], folder: Path) -> None:
    assert end(start(shell, folder, *script("echo out; echo err >&2; echo end"), files=("one", "one"))) == (0, "")
    assert lines_of(folder / "one") == ["out", "err", "end"]


# --- the command's words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["sleep 3", "python process.py a-b_c 1,2 x@y:z", "./run --rate 5%", "/bin/date +%s"])
def test_plain_words_that_name_a_program_are_run_without_a_shell(text: str) -> None:
    assert command_words(Options(script=text), "/job") == text.split(" ")


@pytest.mark.parametrize(
    "text",
    [
        *("cd sub && ./run", "echo 'a b'", "A=1 env", "ls *", "echo $HOME", "a  b", " a", "exit 3", ". ./x", "for"),
        *("ls > out", "ls ~", "a;b", "a|b", "(a)", "a #b", "[ -e x ]", "a\tb", "a\nb", "echo ä", "!", "a `b`"),
        *("a\\b", "a{b,c}"),
    ],
)
def test_whatever_a_shell_would_understand_is_left_to_one(text: str) -> None:
    assert command_words(Options(script=text), "/job") == [SHELL, "-c", text]


def test_a_job_script_goes_to_its_interpreter() -> None:
    options = Options(script="job.sh", interpreter=("/bin/bash", "-e"))
    assert command_words(options, "/a job") == ["/bin/bash", "-e", "/a job/job.sh"]

"""What everything in the spool stands on: names, whole files, refused links, copies across file systems, the lock."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.spool import crossing, history
from qm.spool.files import explained, free_name, numbered, read_regular, read_tail, read_tail_below, write_whole
from qm.spool.lock import Lock, holder_of
from qm.spool.tree import survey, written_to
from qm.vocabulary.errors import Blocked, ConfigError, TryAgain
from qm.vocabulary.record import Record
from qm.vocabulary.states import State

RECORD = Record("abcdefghijkl", "job", "me", State.DONE, 1.0, started=2.0, finished=1_700_000_000.0)


@contextlib.contextmanager
def inside(directory: Path) -> Iterator[None]:
    """Work in a directory: the name of a socket may have 107 bytes at most (unix(7))."""
    before = os.getcwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


# --- names ---------------------------------------------------------------------------------------------------


def test_a_free_name_is_kept(tmp_path: Path) -> None:
    assert free_name(str(tmp_path), "job") == "job"


def test_a_taken_name_gets_the_first_free_number(tmp_path: Path) -> None:
    for name in ("job", "job.2", "job.4"):
        (tmp_path / name).mkdir()
    assert free_name(str(tmp_path), "job") == "job.3"


def test_a_dangling_link_takes_a_name_too(tmp_path: Path) -> None:
    (tmp_path / "job").symlink_to("nowhere")
    assert free_name(str(tmp_path), "job") == "job.2"


def test_a_name_of_255_bytes_is_shortened_for_its_number(tmp_path: Path) -> None:
    longest = "x" * 255
    for _ in range(12):
        name = free_name(str(tmp_path), longest)
        assert len(os.fsencode(name)) <= 255
        (tmp_path / name).mkdir()
    assert len(os.listdir(tmp_path)) == 12


names = st.binary(min_size=1, max_size=255).map(lambda data: os.fsdecode(data.replace(b"/", b"_").replace(b"\0", b"_")))
wide_names = st.text("aä€😀", min_size=50, max_size=63).filter(lambda name: len(os.fsencode(name)) <= 255)


@given(names | wide_names, st.integers(2, 10**9))
def test_a_number_fits_behind_every_name_and_splits_no_character(name: str, number: int) -> None:
    found = numbered(name, number)
    assert len(os.fsencode(found)) <= 255
    kept = found.removesuffix(f".{number}")
    assert name.startswith(kept), "cut between two characters, at the end only"
    assert kept == name or len(os.fsencode(name)) + len(f".{number}") > 255


# --- whole files ---------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_over_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(str(path), b"old" * 1000)
    write_whole(str(path), b"new", sync=True)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_leftover_of_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_bytes(b"half of it")
    write_whole(str(tmp_path / "file"), b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["file", "file.new"])
def test_a_link_in_the_way_is_replaced_and_what_it_points_to_stays(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (tmp_path / name).symlink_to(outside)
    write_whole(str(tmp_path / "file"), b"new")
    assert outside.read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink() and (tmp_path / "file").read_bytes() == b"new"


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = (
        "import resource, signal, sys; from qm.spool.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_whole(sys.argv[1], b'x' * 5000)\n"
        "except OSError: sys.exit(3)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 3
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_regular_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_regular(str(tmp_path / "file"), 4) == b"0123"
    assert read_regular(str(tmp_path / "file"), 100) == b"0123456789"
    assert read_tail(str(tmp_path / "file"), 4) == b"6789"


def test_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError) as refused:
        read_regular(str(tmp_path / "link"), 100)
    assert refused.value.errno in (errno.ELOOP, errno.EMLINK)


def test_a_fifo_a_device_and_a_folder_are_not_read_and_nothing_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/dev/zero", "/dev/null", str(tmp_path)):
        with pytest.raises(OSError):
            read_regular(path, 100)
    with socket.socket(socket.AF_UNIX) as server, inside(tmp_path):
        server.bind("s")
        with pytest.raises(OSError):
            read_regular("s", 100)


def test_refused_files_leak_no_descriptor(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(OSError):
            read_regular(str(tmp_path / "fifo"), 100)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_what_the_system_is_short_of_is_no_fault_of_the_job(number: int) -> None:
    with pytest.raises(TryAgain, match="cannot do it"), explained("cannot do it"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_the_system_forbids_is_told_apart(number: int) -> None:
    with pytest.raises(Blocked, match="cannot do it"), explained("cannot do it"):
        raise OSError(number, os.strerror(number))


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(FileNotFoundError), explained("cannot do it"):
        raise FileNotFoundError(errno.ENOENT, "gone")


# --- looking at a tree ---------------------------------------------------------------------------------------


def test_a_survey_follows_no_link_and_opens_nothing(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "large").write_bytes(b"x" * 10_000)
    (tree / "out").symlink_to(tmp_path / "outside")
    (tree / "loop").symlink_to(".")
    os.mkfifo(tree / "sub" / "fifo")
    found = survey(str(tree))
    assert found[0] == 4, "two links, one folder, one FIFO"
    assert found.size < 10_000


@pytest.mark.parametrize("name", ["data", "sub/data", "process.login", ".qmrc", "sub/process.log", "sub/.qm"])
def test_a_survey_sees_every_change_of_what_the_user_put_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    before = survey(str(tmp_path))
    (tmp_path / name).write_text("x")
    assert survey(str(tmp_path)) != before


@pytest.mark.parametrize("name", ["process.log", "process.log.1", ".qm/job.json", ".qm.abcdefghijkl/job.json"])
def test_a_survey_leaves_out_what_qm_writes_there(tmp_path: Path, name: str) -> None:
    before = survey(str(tmp_path))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    assert survey(str(tmp_path)) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_open_files_are_told_apart_by_how_they_are_open(tmp_path: Path) -> None:
    for name in ("read", "written", "written.too"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    folders = [str(tmp_path / name) for name in ("read", "written", "written.too")]
    with open(f"{folders[0]}/file"), open(f"{folders[1]}/file", "a"):
        assert written_to(folders) == {folders[1]}
    assert written_to(folders) == set()


# --- to another file system ----------------------------------------------------------------------------------


def cross(source: Path, directory: Path, name: str = "job") -> None:
    crossing.copy_across(str(source), str(directory), name, lambda _step: None)


def test_a_folder_is_copied_with_links_fifos_modes_and_times(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "data").write_bytes(b"data")
    os.utime(source / "sub" / "data", ns=(1_000_000_000, 1_500_000_000))
    (source / "sub" / "data").chmod(0o640)
    (tmp_path / "outside").write_bytes(b"precious")
    (source / "out").symlink_to(tmp_path / "outside")
    (source / "dangling").symlink_to("nowhere")
    (source / "to_folder").symlink_to("sub")
    os.mkfifo(source / "fifo", 0o600)
    source.chmod(0o750)
    (tmp_path / "there").mkdir()
    cross(source, tmp_path / "there")
    found = tmp_path / "there" / "job"
    assert os.listdir(tmp_path / "there") == ["job"]
    assert (found / "sub" / "data").read_bytes() == b"data"
    facts = (found / "sub" / "data").lstat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_mtime_ns) == (0o640, 1_500_000_000)
    assert stat.S_IMODE(found.lstat().st_mode) == 0o750
    assert os.readlink(found / "out") == str(tmp_path / "outside")
    assert os.readlink(found / "dangling") == "nowhere"
    assert os.readlink(found / "to_folder") == "sub"
    assert stat.S_ISFIFO((found / "fifo").lstat().st_mode)
    assert (tmp_path / "outside").read_bytes() == b"precious"


def test_a_socket_stays_behind_and_stops_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "there").mkdir()
    with socket.socket(socket.AF_UNIX) as server, inside(source):
        server.bind("s")
    (source / "data").touch()
    cross(source, tmp_path / "there")
    assert os.listdir(tmp_path / "there" / "job") == ["data"]


@pytest.mark.parametrize(
    "name", ["x" * 255, "😀" * 63, os.fsdecode(b"\xff" * 255)], ids=["255 x", "63 emojis", "no UTF-8"]
)
def test_every_name_that_a_folder_may_have_can_cross(tmp_path: Path, name: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "there").mkdir()
    cross(tmp_path / "source", tmp_path / "there", name)
    assert os.listdir(tmp_path / "there") == [name]


def test_what_a_crash_left_of_a_copy_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "there" / ".job.part" / "old").mkdir(parents=True)
    cross(tmp_path / "source", tmp_path / "there")
    assert os.listdir(tmp_path / "there") == ["job"]
    assert os.listdir(tmp_path / "there" / "job") == []


def test_a_copy_that_fails_leaves_the_original_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "data").touch()
    (tmp_path / "there" / "job").mkdir(parents=True)
    (tmp_path / "there" / "job" / "another").touch()
    with pytest.raises(OSError):
        cross(source, tmp_path / "there")
    assert os.listdir(source) == ["data"]
    assert os.listdir(tmp_path / "there") == ["job"]


# --- the history ---------------------------------------------------------------------------------------------


def test_the_history_knows_an_end_by_id_and_time(tmp_path: Path) -> None:
    directory = str(tmp_path / "history")
    assert not history.contains(directory, RECORD)
    history.append(directory, RECORD)
    assert history.contains(directory, RECORD)
    assert not history.contains(directory, RECORD._replace(id="zzzzzzzzzzzz"))
    assert not history.contains(directory, RECORD._replace(finished=1_700_000_001.0)), "a later attempt"


def test_a_torn_line_in_the_history_hides_no_other(tmp_path: Path) -> None:
    directory = tmp_path / "history"
    history.append(str(directory), RECORD)
    (file,) = directory.iterdir()
    with open(file, "a") as torn:
        torn.write('{"id": "mnopqrst')  # the disk was full, or the power went
    other = RECORD._replace(id="zzzzzzzzzzzz")
    assert not history.contains(str(directory), other)
    history.append(str(directory), other)
    assert history.contains(str(directory), other)
    assert history.contains(str(directory), RECORD)


def test_a_history_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    history.append(str(tmp_path), RECORD)
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to("elsewhere")
    with pytest.raises(OSError):
        history.contains(str(tmp_path), RECORD)


# --- the lock ------------------------------------------------------------------------------------------------


def test_the_lock_is_held_by_one_and_names_its_holder(tmp_path: Path) -> None:
    path = str(tmp_path / ".qm" / "lock")
    first = Lock(path)
    assert holder_of(path) is None
    first.take()
    with pytest.raises(TryAgain, match=f"pid {os.getpid()} on host"):
        Lock(path).take(patience=0.05)
    holder = holder_of(path)
    assert holder is not None and holder.pid == os.getpid()
    first.release()
    assert holder_of(path) is None


def test_a_lock_whose_file_was_removed_is_noticed(tmp_path: Path) -> None:
    path = str(tmp_path / ".qm" / "lock")
    lock = Lock(path)
    lock.take()
    assert lock.still_ours()
    os.unlink(path)
    assert not lock.still_ours()
    lock.release()
    lock.take()
    assert lock.still_ours()
    lock.release()


def test_the_system_drops_the_lock_of_a_process_that_was_killed(tmp_path: Path) -> None:
    path = str(tmp_path / ".qm" / "lock")
    script = (
        "import os, sys; from qm.spool.lock import Lock\n"
        "Lock(sys.argv[1]).take(); print('taken', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, path], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"taken\n"
        holder = holder_of(path)
        assert holder is not None and holder.pid == other.pid
        other.kill()
    lock = Lock(path)
    lock.take()
    lock.release()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("precious")
    (tmp_path / "lock").symlink_to("outside")
    with pytest.raises(ConfigError):
        Lock(str(tmp_path / "lock")).take(patience=0.0)
    assert (tmp_path / "outside").read_text() == "precious"


def test_a_file_below_a_folder_is_read_but_no_link_on_the_way_followed(tmp_path: Path) -> None:
    job = tmp_path / "job"
    (job / "sub").mkdir(parents=True)
    (job / "sub" / "file").write_bytes(b"0123456789")
    assert read_tail_below(str(job), "sub/file", 4) == b"6789"
    (job / "link").symlink_to(job / "sub")
    (job / "sub" / "last").symlink_to("file")
    (tmp_path / "other").symlink_to(job)
    os.mkfifo(job / "sub" / "fifo")
    for directory, path in ((job, "link/file"), (job, "sub/last"), (tmp_path / "other", "sub/file"), (job, "sub/fifo")):
        with pytest.raises(OSError):
            read_tail_below(str(directory), path, 4)

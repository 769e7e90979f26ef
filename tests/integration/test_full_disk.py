"""Short of something: a full disk, no descriptors left; and folders that lie on different file systems.

In each case no job is to blame, so none is called invalid, nothing is lost, and the daemon goes on once it can.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import TestSpool, lines_of, until

from qm.spool.lock import holder_of

MakeSpool = Callable[..., TestSpool]


# --- a full disk ---------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=400", "qm-test", str(place)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a small file system, and not everywhere")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path, name: str = "filler") -> Path:
    """Take every byte that is left."""
    with open(place / name, "wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return place / name


def fill_inodes(place: Path) -> Path:
    """Take every file that could still be made."""
    many = place / "many"
    many.mkdir()
    with contextlib.suppress(OSError):
        for number in range(10_000):
            (many / str(number)).touch()
    return many


def make_room(filler: Path) -> None:
    shutil.rmtree(filler) if filler.is_dir() else filler.unlink()


@pytest.fixture
def cramped(small: Path) -> Iterator[TestSpool]:
    """A spool on the small file system, with its daemon."""
    spool = TestSpool(small / "spool", Poll_Interval=0.1, Settle_Time=0.1, Disk_Reserve=0)
    spool.start()
    yield spool
    spool.close()


def history(spool: TestSpool) -> list[str]:
    return [line for file in (spool.root / "QM_history").glob("*.jsonl") for line in lines_of(file)]


def assert_ran_once(spool: TestSpool, *names: str) -> None:
    """Each ended once, in done, with one line in the history, and nothing was called invalid."""
    for name in names:
        spool.wait_for(name, spool.done)
    until(lambda: not os.listdir(spool.queue) and not os.listdir(spool.jobs))
    assert sorted(os.listdir(spool.done)) == sorted(names)
    assert not os.listdir(spool.lost)
    assert len(history(spool)) == len(names)
    assert spool.daemon is not None and spool.daemon.poll() is None


@pytest.mark.parametrize("filling", [fill, fill_inodes])
def test_jobs_that_come_to_a_full_disk_wait_and_run_once_there_is_room(
    cramped: TestSpool, filling: Callable[[Path], Path]
) -> None:
    made = [cramped.make(f"j{number}", f"echo {number} >> ../../ran") for number in range(3)]
    filler = filling(cramped.root)
    for folder in made:
        os.rename(folder, cramped.queue / folder.name)
    witness = cramped.log()
    until(lambda: cramped.log() != witness or list(cramped.queue.glob("*/.qm")), "the daemon to notice")
    assert cramped.daemon is not None and cramped.daemon.poll() is None
    assert not os.listdir(cramped.lost) and not os.listdir(cramped.done)
    make_room(filler)
    assert_ran_once(cramped, "j0", "j1", "j2")
    assert sorted(lines_of(cramped.root / "ran")) == ["0", "1", "2"]


@pytest.mark.parametrize("filling", [fill, fill_inodes])
def test_a_job_that_ends_on_a_full_disk_keeps_its_status_and_is_filed_once_there_is_room(
    cramped: TestSpool, filling: Callable[[Path], Path]
) -> None:
    cramped.drop("long", f"until [ -e {cramped.root}/go ]; do sleep 0.02; done; exit 5")
    cramped.drop("waits", "true", nb_proc=2)
    cramped.wait_running("long")
    until(lambda: (cramped.queue / "waits" / ".qm" / "job.json").exists())
    ids = {
        name: cramped.record(place / name)["id"] for name, place in (("long", cramped.jobs), ("waits", cramped.queue))
    }
    os.mkfifo(cramped.root / "going")
    filler = filling(cramped.root)
    os.rename(cramped.root / "going", cramped.root / "go")  # a name changes: that takes no room
    until(turns(cramped), "the daemon to go on")
    make_room(filler)
    record = cramped.record(cramped.wait_for("long", cramped.lost))
    assert (record["state"], record["exit_status"], record["attempt"], record["id"]) == ("failed", 5, 1, ids["long"])
    assert cramped.record(cramped.wait_for("waits", cramped.done))["id"] == ids["waits"]
    until(lambda: len(history(cramped)) == 2)


def test_a_job_that_fills_the_disk_itself_is_filed_with_its_own_status(cramped: TestSpool) -> None:
    cramped.drop("fills", "head -c 100000000 /dev/zero > data; echo status $? > word; rm data; exit 9")
    record = cramped.record(cramped.wait_for("fills", cramped.lost))
    assert (record["state"], record["exit_status"]) == ("failed", 9)
    cramped.drop("next", "true")
    cramped.wait_for("next", cramped.done)


def test_a_bad_job_that_comes_to_a_full_disk_is_called_invalid_once(cramped: TestSpool) -> None:
    made = cramped.make("bad", "true", nb_proc="twelve")
    filler = fill(cramped.root)
    os.rename(made, cramped.queue / "bad")
    until(lambda: list(cramped.root.glob("*/bad/.qm")) or "bad" in cramped.log())
    filler.unlink()
    folder = cramped.wait_for("bad", cramped.lost)
    assert cramped.record(folder)["state"] == "invalid"
    until(lambda: len(history(cramped)) == 1)
    assert not [name for name in os.listdir(folder) if name.startswith(".qm.")], "one record, not one a try"


def test_a_request_to_a_full_disk_is_kept_or_refused_and_obeyed_later(cramped: TestSpool) -> None:
    cramped.drop("held", "true", hold="yes")
    until(lambda: (cramped.queue / "held" / ".qm" / "job.json").exists())
    filler = fill(cramped.root)
    result = cramped.qm("release", "held", check=False)
    assert result.returncode in (1, 75) and "Traceback" not in result.stderr
    filler.unlink()
    cramped.qm("release", "held", check=False)
    cramped.wait_for("held", cramped.done)


@pytest.mark.parametrize("filling", [fill, fill_inodes])
def test_a_daemon_that_is_started_on_a_full_disk_serves_or_says_what_is_wrong(
    cramped: TestSpool, filling: Callable[[Path], Path], tmp_path: Path
) -> None:
    cramped.stop()
    cramped.drop("job", "true")
    filler = filling(cramped.root)
    words = [sys.executable, "-m", "qm.cli.queuemanager", "-c", str(cramped.config)]
    with open(tmp_path / "said", "w") as said:
        daemon = cramped.daemon = subprocess.Popen(words, stderr=said, start_new_session=True)
    until(lambda: daemon.poll() is not None or holder_of(str(cramped.root / ".qm" / "lock")) is not None)
    if daemon.poll() is None:
        until(turns(cramped), "the daemon to begin")
    text = (tmp_path / "said").read_text()
    assert "Traceback" not in text
    make_room(filler)
    if daemon.poll() is not None:
        assert daemon.returncode == 75 and "No space left" in text
        cramped.start()
    cramped.wait_for("job", cramped.done)


# --- no descriptors left -------------------------------------------------------------------------------------


@contextlib.contextmanager
def without_descriptors(spool: TestSpool) -> Iterator[None]:
    """The daemon can open nothing new meanwhile (prlimit(2))."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("no prlimit(2) here")
    assert spool.daemon is not None
    pid = spool.daemon.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        if spool.daemon.poll() is None:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def turns(spool: TestSpool) -> Callable[[], bool]:
    """A condition that holds once the daemon has woken up a few times since (or has ended)."""
    assert spool.daemon is not None
    daemon = spool.daemon

    def woken() -> int:
        lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")))

    before = woken()
    return lambda: daemon.poll() is not None or woken() > before + 4


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


@needs_proc
def test_jobs_that_come_while_no_descriptor_is_left_run_later(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.05, Settle_Time=0.1)
    spool.start()
    with without_descriptors(spool):
        for number in range(3):
            spool.drop(f"moved{number}", "true")
            shutil.copytree(spool.make(f"copied{number}", "true"), spool.queue / f"copied{number}")
        until(turns(spool), "the daemon to go on")
        assert not os.listdir(spool.lost)
    assert_ran_once(spool, *(f"{kind}{number}" for kind in ("moved", "copied") for number in range(3)))


@needs_proc
def test_an_id_that_was_promised_is_kept_although_no_descriptor_was_left(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.05)
    spool.start()
    with without_descriptors(spool):
        name, job_id = spool.qm("submit", str(spool.make("job", "true"))).stdout.split()
        until(turns(spool), "the daemon to go on")
    assert spool.record(spool.wait_for(name, spool.done))["id"] == job_id


@needs_proc
@pytest.mark.parametrize("status", [0, 7, 70])
def test_a_job_that_ends_while_no_descriptor_is_left_keeps_its_status(make_spool: MakeSpool, status: int) -> None:
    spool = make_spool(Poll_Interval=0.05)
    spool.start()
    spool.drop("ends", f"echo run; until [ -e {spool.root}/go ]; do sleep 0.02; done; exit {status}")
    folder = spool.wait_running("ends")
    with without_descriptors(spool):
        (spool.root / "go").touch()
        until(lambda: not folder.exists() or (folder / ".qm" / "run" / "1.exit").exists())
        until(turns(spool), "the daemon to go on")
    folder = spool.wait_for("ends")
    record = spool.record(folder)
    assert (record["exit_status"], record["attempt"]) == (status, 1)
    assert lines_of(folder / "process.log").count("run") == 1


@needs_proc
def test_a_job_taken_over_ends_with_its_status_although_no_descriptor_is_left(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.05)
    spool.start()
    spool.drop("ends", f"until [ -e {spool.root}/go ]; do sleep 0.02; done; exit 7")
    folder = spool.wait_running("ends")
    spool.stop()
    spool.start()
    until(lambda: "taken over" in spool.log())
    with without_descriptors(spool):
        (spool.root / "go").touch()
        until(lambda: not folder.exists() or (folder / ".qm" / "run" / "1.exit").exists())
        until(turns(spool), "the daemon to go on")
    record = spool.record(spool.wait_for("ends"))
    assert (record["state"], record["exit_status"]) == ("failed", 7)


@needs_proc
def test_requests_wait_while_no_descriptor_is_left(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=0.05)
    spool.start()
    spool.drop("held", "true", hold="yes")
    until(lambda: (spool.queue / "held" / ".qm" / "job.json").exists())
    words = [sys.executable, "-m", "qm.cli.main", "-c", str(spool.config), "release", "held"]
    with subprocess.Popen(words) as asking:
        with without_descriptors(spool):
            until(lambda: os.listdir(spool.root / ".qm" / "requests"))
            until(turns(spool), "the daemon to go on")
        assert asking.wait(30) == 0
    spool.wait_for("held", spool.done)


@needs_proc
def test_a_daemon_with_few_descriptors_runs_many_jobs(make_spool: MakeSpool) -> None:
    spool = make_spool(MaxNbProcessors=40, Poll_Interval=0.1)
    spool.start()
    assert spool.daemon is not None
    resource.prlimit(spool.daemon.pid, resource.RLIMIT_NOFILE, (24, 1024))
    for number in range(40):
        spool.drop(f"j{number}", f"until [ -e {spool.root}/go ]; do sleep 0.1; done")
    until(lambda: len(os.listdir(spool.jobs)) == 40, "all to run, more than there are descriptors")
    (spool.root / "go").touch()
    until(lambda: len(os.listdir(spool.done)) == 40)
    assert not os.listdir(spool.lost)


# --- several file systems ------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the tests' own."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    place = Path(tempfile.mkdtemp(prefix="qm-test-", dir=shared))
    yield place
    shutil.rmtree(place)


def lay_elsewhere(spool: TestSpool, folder: Path, elsewhere: Path) -> Path:
    """One of the four folders becomes a link to another file system."""
    folder.rmdir()
    (elsewhere / folder.name).mkdir()
    folder.symlink_to(elsewhere / folder.name)
    return elsewhere / folder.name


@pytest.mark.parametrize("which", ["queue", "jobs"])
def test_queue_and_jobs_on_different_file_systems_stop_the_daemon_with_78(
    make_spool: MakeSpool, elsewhere: Path, which: str
) -> None:
    spool = make_spool()
    lay_elsewhere(spool, getattr(spool, which), elsewhere)
    if which == "jobs":
        spool.drop("job", "true")
    result = spool.qm("daemon", check=False)
    assert result.returncode == 78
    assert "different file systems" in result.stderr and "QM_qJobs" in result.stderr and "QM_Jobs" in result.stderr
    assert os.listdir(spool.queue) == (["job"] if which == "jobs" else []), "no probe is left"


@pytest.mark.parametrize("status", [0, 3])
def test_an_ended_job_is_filed_on_another_file_system_with_all_it_has(
    make_spool: MakeSpool, elsewhere: Path, status: int
) -> None:
    spool = make_spool()
    place = lay_elsewhere(spool, spool.lost if status else spool.done, elsewhere)
    outside = spool.root / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    script = (
        f"mkdir -p deep/er; echo result > deep/er/result; ln -s {outside} out; ln -s nowhere dangling; "
        f"mkfifo fifo; chmod 600 deep/er/result; touch -d 2001-02-03 deep/er/result; exit {status}"
    )
    spool.drop("job", script)
    spool.run_until_empty()
    folder = place / "job"
    assert (folder / "deep" / "er" / "result").read_text() == "result\n"
    facts = (folder / "deep" / "er" / "result").stat()
    assert stat.S_IMODE(facts.st_mode) == 0o600 and facts.st_mtime < 1_000_000_000
    assert os.readlink(folder / "out") == str(outside) and os.readlink(folder / "dangling") == "nowhere"
    assert stat.S_ISFIFO((folder / "fifo").lstat().st_mode)
    assert os.listdir(outside) == ["precious"]
    assert spool.record(folder)["exit_status"] == status
    assert lines_of(folder / "process.log")[-1].endswith(f"with code {status}")
    assert os.listdir(place) == ["job"] and not os.listdir(spool.jobs)
    assert len(history(spool)) == 1


@pytest.mark.parametrize("name", ["x" * 255, "😀" * 63], ids=["255 x", "63 emojis"])
def test_a_long_name_crosses_too_and_twice(make_spool: MakeSpool, elsewhere: Path, name: str) -> None:
    spool = make_spool()
    place = lay_elsewhere(spool, spool.done, elsewhere)
    spool.start()
    for count in (1, 2):
        spool.drop(name, "true")
        until(lambda count=count: len(os.listdir(place)) == count and not os.listdir(spool.jobs))
    assert all(not found.startswith(".") for found in os.listdir(place))


def test_a_done_job_on_another_file_system_can_be_tried_again_and_deleted(
    make_spool: MakeSpool, elsewhere: Path
) -> None:
    spool = make_spool()
    place = lay_elsewhere(spool, spool.done, elsewhere)
    spool.start()
    spool.drop("job", "echo $QM_ATTEMPT")
    job_id = spool.record(spool.wait_for("job", spool.done))["id"]
    until(lambda: not os.listdir(spool.jobs))
    spool.qm("retry", "job")
    until(lambda: (place / "job").exists() and spool.record(place / "job")["attempt"] == 2)
    assert spool.record(place / "job")["id"] == job_id
    until(lambda: not os.listdir(spool.jobs))
    spool.qm("delete", "job")
    until(lambda: not os.listdir(place))


def test_a_full_file_system_for_done_jobs_delays_their_filing_only(make_spool: MakeSpool, small: Path) -> None:
    spool = make_spool(Poll_Interval=0.1)
    place = lay_elsewhere(spool, spool.done, small)
    filler = fill(small)
    spool.start()
    spool.drop("large", "head -c 200000 /dev/zero > data")
    spool.drop("fails", "exit 3")
    assert spool.record(spool.wait_for("fails", spool.lost))["state"] == "failed"
    until(lambda: "large" in spool.log() and "cannot be filed yet" in spool.log())
    assert (spool.jobs / "large" / "data").stat().st_size == 200_000
    filler.unlink()
    folder = spool.wait_for("large", spool.done)
    assert (folder / "data").stat().st_size == 200_000
    until(lambda: not os.listdir(spool.jobs))
    assert sorted(os.listdir(place)) == ["large"]
    assert len(history(spool)) == 2

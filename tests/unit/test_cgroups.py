"""Memory cgroups: found out at start, made for a job, and gone after it; for real where this machine lets us."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import until

from qm.launchers import cgroups as module
from qm.launchers.cgroups import LEAF, Cgroup, Cgroups, open_cgroups
from qm.spool.hierarchies import Place

LOG = logging.getLogger("test_cgroups")
ENTER = 'echo $$ >"$1" || exit 99; shift; exec "$@"'
HOG = "held = bytearray(256 << 20)"
WAIT = "import sys; print(flush=True); sys.stdin.read()"


# --- the real kernel ---------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Iterator[Cgroups]:
    """Version 1, as version 2 might move the tests' own process; nothing of ours is left there."""
    place = module.place_of()
    found = open_cgroups(LOG) if place is not None and place.version == 1 else None
    if found is None:
        pytest.skip("no memory cgroups of version 1 can be made here")
    before = set(os.listdir(found.base))
    yield found
    assert set(os.listdir(found.base)) <= before


def run_in(cgroup: Cgroup, code: str) -> subprocess.Popen[bytes]:
    """Python code in a cgroup."""
    words = ["sh", "-c", ENTER, "sh", *cgroup.procs_files, sys.executable, "-c", code]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def name(text: str) -> str:
    """No other worker's."""
    return f"qm-test-{os.getpid()}-{text}"


def test_a_process_above_the_limit_is_killed_and_counted(real: Cgroups) -> None:
    cgroup = real.make(name("hog"), 64 << 20)
    assert cgroup.oom_kills() == 0
    with run_in(cgroup, HOG) as hog:
        hog.communicate(timeout=30)
    assert hog.returncode == -9
    assert cgroup.oom_kills() == 1
    assert 60 << 20 < (cgroup.peak() or 0) <= 64 << 20
    until(cgroup.remove)


def test_a_job_that_only_reads_large_files_is_not_ended(real: Cgroups, tmp_path: Path) -> None:
    large = tmp_path / "large"
    code = f"""
import os
with open({str(large)!r}, "wb") as file:
    for _ in range(128):
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
with open({str(large)!r}, "rb") as file:
    while file.read(1 << 20):
        pass
"""
    cgroup = real.make(name("reader"), 64 << 20)
    with run_in(cgroup, code) as reader:
        reader.communicate(timeout=60)
    assert (reader.returncode, cgroup.oom_kills()) == (0, 0)
    assert cgroup.memory() < 32 << 20
    until(cgroup.remove)


def test_a_job_s_processes_are_found_and_its_cgroup_from_any_of_them(real: Cgroups) -> None:
    cgroup = real.make(name("find"), 64 << 20)
    with run_in(cgroup, WAIT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert cgroup.pids() == [process.pid]
        assert real.find(process.pid) == cgroup
        assert cgroup.memory() > 0
        assert not cgroup.remove()
        with pytest.raises(OSError):
            real.make(name("find"), 64 << 20)
        process.communicate(timeout=30)
    assert cgroup.pids() == []
    until(cgroup.remove)
    assert cgroup.remove()
    assert (cgroup.pids(), cgroup.memory(), cgroup.peak(), cgroup.oom_kills()) == ([], 0, None, 0)


def test_a_cgroup_whose_limit_is_lost_holds_nobody(real: Cgroups) -> None:
    cgroup = real.make(name("lost"), 64 << 20)
    with run_in(cgroup, WAIT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for file in ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes"):
            if os.path.exists(f"{cgroup.folder}/{file}"):
                Path(cgroup.folder, file).write_text("-1")
        assert real.find(process.pid) is None
        process.communicate(timeout=30)
    until(cgroup.remove)


def test_a_process_in_no_job_s_cgroup_has_none(real: Cgroups) -> None:
    assert real.find(os.getpid()) is None
    assert real.find(2**22 + 1) is None


def test_a_daemon_that_is_itself_a_job_does_not_take_its_own_cgroup_for_one_of_its_jobs(real: Cgroups) -> None:
    outer = real.make(name("outer"), 64 << 20)
    code = f"""
import logging, os
from qm.launchers.cgroups import open_cgroups
cgroups = open_cgroups(logging.getLogger())
assert cgroups.base == {outer.folder!r}
assert cgroups.find(os.getpid()) is None
inner = cgroups.make("qm-inner", 16 << 20)
print(inner.folder)
"""
    with run_in(outer, code) as process:
        output, _ = process.communicate(timeout=30)
    assert output.decode().strip() == f"{outer.folder}/qm-inner"
    until(outer.remove)
    assert not os.path.exists(outer.folder)


def test_a_leftover_of_the_same_name_is_replaced_and_counts_anew(real: Cgroups) -> None:
    first = real.make(name("again"), 64 << 20)
    with run_in(first, HOG) as hog:
        hog.communicate(timeout=30)
    second = until(lambda: _made(real, name("again"), 512 << 20))
    assert second.oom_kills() == 0
    assert second.remove()


def _made(cgroups: Cgroups, folder: str, limit: int) -> Cgroup | None:
    try:
        return cgroups.make(folder, limit)
    except FileExistsError:  # its last process is just going
        return None


def test_a_limit_that_the_kernel_refuses_leaves_no_cgroup(real: Cgroups) -> None:
    with pytest.raises(OSError, match="limit"):
        real.make(name("refused"), -5)
    assert name("refused") not in os.listdir(real.base)


# --- version 2, on a folder that behaves like the kernel's ------------------------------------------------------


class FakeKernel:
    """cgroup2 as far as we use it: the files of new folders, one place for a process, no processes in inner nodes."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, pids: str = "") -> None:
        self.own = root / "user.slice" / "qm.scope"
        self._mkdir, self._rmdir = os.mkdir, os.rmdir
        for folder in (root, root / "user.slice", self.own):
            folder.mkdir(exist_ok=True)
            self._furnish(str(folder))
        (self.own / "cgroup.controllers").write_text("cpu memory pids\n")
        (self.own / "cgroup.procs").write_text(pids or f"{os.getpid()}\n")
        self.root = root
        self.refused = ""
        monkeypatch.setattr(module.os, "mkdir", self.mkdir)
        monkeypatch.setattr(module.os, "rmdir", self.rmdir)
        monkeypatch.setattr(module, "_write", self.write)
        monkeypatch.setattr(module, "place_of", lambda: Place(2, str(root), str(self.own)))

    def _furnish(self, folder: str) -> None:
        for file in ("procs", "subtree_control", "controllers"):
            Path(folder, f"cgroup.{file}").write_text("")

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._mkdir(path, mode)
        self._furnish(path)
        if "memory" in Path(path).parent.joinpath("cgroup.subtree_control").read_text():
            for file in ("max", "swap.max", "events"):
                Path(path, f"memory.{file}").write_text("max\n")

    def rmdir(self, path: str) -> None:
        if Path(path, "cgroup.procs").read_text() or any(entry.is_dir() for entry in os.scandir(path)):
            raise OSError(16, "Device or resource busy", path)
        for entry in os.scandir(path):
            os.unlink(entry.path)
        self._rmdir(path)

    def write(self, path: str, text: str) -> None:
        file = Path(path)
        if path.endswith(self.refused or "\0"):
            raise PermissionError(13, "Permission denied", path)
        if not file.exists():
            raise FileNotFoundError(2, "No such file or directory", path)
        if file.name == "cgroup.procs":
            for other in self.root.rglob("cgroup.procs"):
                other.write_text(other.read_text().replace(f"{text}\n", ""))
            file.write_text(f"{file.read_text()}{text}\n")
        elif file.name == "cgroup.subtree_control":
            if text.startswith("+") and file.with_name("cgroup.procs").read_text():
                raise OSError(16, "Device or resource busy", path)
            file.write_text(text.removeprefix("+") if text.startswith("+") else "")
        else:
            file.write_text(text)


def state(folder: Path) -> dict[str, str]:
    """Every file below, with its text."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    return FakeKernel(tmp_path, monkeypatch)


def test_with_version_2_the_daemon_moves_into_a_leaf_and_passes_the_controller_on(
    kernel: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        cgroups = open_cgroups(LOG)
    assert cgroups is not None
    assert cgroups.base == str(kernel.own)
    assert (kernel.own / LEAF / "cgroup.procs").read_text() == f"{os.getpid()}\n"
    assert (kernel.own / "cgroup.procs").read_text() == ""
    assert caplog.messages == [f"memory of jobs: limited by cgroups (version 2) in {kernel.own}"]
    assert [entry.name for entry in os.scandir(kernel.own) if entry.is_dir()] == [LEAF]


def test_with_version_2_memory_is_limited_and_swap_forbidden(kernel: FakeKernel) -> None:
    cgroups = open_cgroups(LOG)
    assert cgroups is not None
    cgroup = cgroups.make("qm-abc", 1 << 30)
    assert Path(cgroup.folder, "memory.max").read_text() == str(1 << 30)
    assert Path(cgroup.folder, "memory.swap.max").read_text() == "0"
    Path(cgroup.folder, "memory.events").write_text("low 0\nhigh 0\nmax 4\noom 2\noom_kill 3\noom_group_kill 0\n")
    Path(cgroup.folder, "memory.current").write_text("5000000\n")
    Path(cgroup.folder, "memory.stat").write_text("anon 1\ninactive_file 1000000\nactive_file 500000\n")
    Path(cgroup.folder, "memory.peak").write_text("7000000\n")
    assert (cgroup.oom_kills(), cgroup.memory(), cgroup.peak()) == (3, 3_500_000, 7_000_000)


def test_cgroups_without_processes_are_removed_and_no_other_folder(kernel: FakeKernel) -> None:
    cgroups = open_cgroups(LOG)
    assert cgroups is not None
    for folder in ("qm-empty", "qm-busy", "strange"):
        os.mkdir(kernel.own / folder)
    (kernel.own / "qm-busy" / "cgroup.procs").write_text("123\n")
    cgroups.remove_empty()
    left = {entry.name for entry in os.scandir(kernel.own) if entry.is_dir()}
    assert left == {"qm-busy", "strange", LEAF}


def test_a_daemon_that_systemd_put_into_the_leaf_uses_the_cgroup_around_it(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = kernel.own / LEAF
    os.mkdir(leaf)
    kernel.write(str(leaf / "cgroup.procs"), str(os.getpid()))
    monkeypatch.setattr(module, "place_of", lambda: Place(2, str(kernel.root), str(leaf)))
    cgroups = open_cgroups(LOG)
    assert cgroups is not None
    assert cgroups.base == str(kernel.own)


@pytest.mark.parametrize("refused", ["qm.scope/cgroup.subtree_control", f"{LEAF}/cgroup.procs", "memory.max"])
def test_where_the_kernel_refuses_everything_is_as_before(
    kernel: FakeKernel, refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = state(kernel.root)
    kernel.refused = refused
    with caplog.at_level(logging.INFO):
        assert open_cgroups(LOG) is None
    assert state(kernel.root) == before
    assert "memory of jobs: watched, as cgroups cannot be used: " in caplog.text
    assert f"{refused}: Permission denied" in caplog.text


def test_beside_other_processes_nothing_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = FakeKernel(tmp_path, monkeypatch, pids=f"77\n{os.getpid()}\n")
    before = state(kernel.root)
    with caplog.at_level(logging.INFO):
        assert open_cgroups(LOG) is None
    assert state(kernel.root) == before
    assert "other processes, such as 77, are in" in caplog.text


def test_without_the_controller_nothing_is_touched(kernel: FakeKernel, caplog: pytest.LogCaptureFixture) -> None:
    (kernel.own / "cgroup.controllers").write_text("cpu pids\n")
    before = state(kernel.root)
    with caplog.at_level(logging.INFO):
        assert open_cgroups(LOG) is None
    assert state(kernel.root) == before
    assert "has not been given the memory controller" in caplog.text


def test_a_service_that_systemd_could_not_start_again_is_left_as_it_is(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = kernel.own / "qm.service"
    os.mkdir(service)
    before = state(kernel.root)
    monkeypatch.setattr(module, "place_of", lambda: Place(2, str(kernel.root), str(service)))
    with caplog.at_level(logging.INFO):
        assert open_cgroups(LOG) is None
    assert state(kernel.root) == before
    assert f"without DelegateSubgroup={LEAF}" in caplog.text


def test_without_control_groups_memory_is_watched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "place_of", lambda: None)
    with caplog.at_level(logging.INFO):
        assert open_cgroups(LOG) is None
    assert caplog.messages == [
        "memory of jobs: watched, as cgroups cannot be used: this system has none for memory",
    ]

"""Control groups as the kernel tells of them: versions, containers, limits further up."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from qm.spool.hierarchies import Place, memory_left, memory_limit, place_of

MIXED = """\
30 23 0:26 / {top} ro,nosuid - tmpfs tmpfs ro,mode=755
35 30 0:31 / {top}/cpu rw - cgroup cgroup rw,cpu,cpuacct
36 30 0:32 {root} {top}/memory rw,relatime shared:16 - cgroup cgroup rw,memory
37 30 0:33 {root} {top}/unified rw - cgroup2 cgroup2 rw,nsdelegate
"""
NONE = "9223372036854771712\n"


def proc(folder: Path, cgroup: str, mountinfo: str) -> str:
    """A /proc of one process, itself."""
    (folder / "self").mkdir()
    (folder / "self" / "cgroup").write_text(cgroup)
    (folder / "self" / "mountinfo").write_text(mountinfo)
    return str(folder)


def test_version_1_is_used_where_it_has_the_controller(tmp_path: Path) -> None:
    there = proc(tmp_path, "9:cpu,cpuacct:/x\n4:memory:/user/me\n0::/y\n", MIXED.format(top="/cg", root="/"))
    assert place_of(proc=there) == Place(1, "/cg/memory", "/cg/memory/user/me")


def test_version_2_has_the_controllers_that_version_1_has_not(tmp_path: Path) -> None:
    there = proc(tmp_path, "1:name=systemd:/x\n0::/user.slice/a:b.scope\n", MIXED.format(top="/cg", root="/"))
    assert place_of(proc=there) == Place(2, "/cg/unified", "/cg/unified/user.slice/a:b.scope")


def test_a_controller_of_version_1_that_is_not_mounted_is_looked_for_in_version_2(tmp_path: Path) -> None:
    there = proc(tmp_path, "4:memory:/x\n0::/\n", "29 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n")
    assert place_of(proc=there) == Place(2, "/cg", "/cg")


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/docker/1", "/cg/memory"),
        ("/docker/1/qm", "/cg/memory/qm"),
        ("/docker/12", None),
        ("/", None),
        ("/docker/1/../2", None),
    ],
)
def test_in_a_container_only_its_own_part_is_seen(tmp_path: Path, path: str, folder: str | None) -> None:
    there = proc(tmp_path, f"4:memory:{path}\n", MIXED.format(top="/cg", root="/docker/1"))
    found = place_of(proc=there)
    assert (found and found.folder) == folder


def test_a_mount_point_may_have_blanks(tmp_path: Path) -> None:
    there = proc(tmp_path, "4:memory:/x\n", MIXED.format(top="/c\\040g", root="/"))
    assert place_of(proc=there) == Place(1, "/c g/memory", "/c g/memory/x")


def test_without_control_groups_there_is_no_place(tmp_path: Path) -> None:
    assert place_of(proc=str(tmp_path)) is None
    assert place_of(2**22 + 1) is None


def limited(folder: Path, limit: str, usage: int, cached: int = 0) -> None:
    """A cgroup of version 2."""
    folder.mkdir(exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\nactive_file 0\n")


def test_the_strictest_limit_around_a_process_counts(tmp_path: Path) -> None:
    limited(tmp_path / "slice", "1000", 900)
    limited(tmp_path / "slice/scope", "5000", 100)
    place = Place(2, str(tmp_path), str(tmp_path / "slice/scope"))
    assert memory_limit(place) == 1000
    assert memory_left(place) == 100


def test_what_only_keeps_files_in_memory_is_left(tmp_path: Path) -> None:
    limited(tmp_path / "scope", "1000", 950, cached=600)
    assert memory_left(Place(2, str(tmp_path), str(tmp_path / "scope"))) == 650


def test_more_than_the_limit_leaves_nothing(tmp_path: Path) -> None:
    limited(tmp_path / "scope", "1000", 1200)
    assert memory_left(Place(2, str(tmp_path), str(tmp_path / "scope"))) == 0


def test_no_limit_is_none_in_either_version(tmp_path: Path) -> None:
    limited(tmp_path / "two", "max", 1000)
    (tmp_path / "one").mkdir()
    (tmp_path / "one/memory.limit_in_bytes").write_text(NONE)
    for version, folder in ((1, "one"), (2, "two")):
        place = Place(version, str(tmp_path), str(tmp_path / folder))
        assert memory_limit(place) is None
        assert memory_left(place) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups are Linux's")
def test_on_this_machine_the_folder_is_there_and_has_this_process() -> None:
    place = place_of()
    if place is None or not os.path.exists(f"{place.folder}/cgroup.procs"):
        pytest.skip("no memory cgroups can be seen here")
    assert str(os.getpid()) in Path(place.folder, "cgroup.procs").read_text().split()

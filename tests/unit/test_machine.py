"""What the machine has: processors, memory, GPUs, room on the disk."""

from __future__ import annotations

import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from qm.judgement.processors import Cpu
from qm.judgement.waiting import Limits
from qm.spool import machine
from qm.spool.hierarchies import Place
from qm.spool.machine import (
    available_memory,
    cpus,
    disk_short,
    gpu_numbers,
    limits,
    max_memory,
    total_memory,
    usable_processors,
)
from qm.vocabulary.config import Settings

GIB = 1 << 30
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's tables")


def settings(**values: object) -> Settings:
    """Settings with these values."""
    return Settings(file="QMserv.cfg", folder=".", **values)  # type: ignore[arg-type]


# --- processors --------------------------------------------------------------------------------------------


def test_every_processor_that_may_be_used_is_listed_once() -> None:
    found = cpus()
    assert len({cpu.number for cpu in found}) == len(found) == usable_processors()
    if hasattr(os, "sched_getaffinity"):
        assert {cpu.number for cpu in found} == os.sched_getaffinity(0)


@LINUX
def test_cores_and_nodes_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages of two cores of two hyperthreads, numbered as Intel does."""
    monkeypatch.setattr(machine, "_usable", lambda: list(range(8)))
    for number in range(8):
        topology = tmp_path / f"cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        name = "core_cpus_list" if number < 6 else "thread_siblings_list"
        (topology / name).write_text(f"{number % 4},{number % 4 + 4}\n")
    for node, text in ((0, "0-1,4-5"), (1, "2-3,6-7"), (2, "")):
        (tmp_path / f"node/node{node}").mkdir(parents=True)
        (tmp_path / f"node/node{node}/cpulist").write_text(f"{text}\n")
    (tmp_path / "node/possible").write_text("0-2\n")
    found = cpus(str(tmp_path))
    assert [cpu.number for cpu in found] == list(range(8))
    assert [cpu.core for cpu in found] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [cpu.node for cpu in found] == [0, 0, 1, 1, 0, 0, 1, 1]


def test_without_tables_each_processor_is_a_core_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_usable", lambda: [2, 3])
    assert cpus(str(tmp_path)) == [Cpu(2, 2, 0), Cpu(3, 3, 0)]


# --- memory ------------------------------------------------------------------------------------------------


def test_there_is_no_more_memory_available_than_in_all() -> None:
    assert 0 < available_memory() < total_memory()


@LINUX
def test_a_container_s_limit_is_all_the_memory_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{64 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{44 << 20}\n")
    monkeypatch.setattr(machine, "place_of", lambda proc="/proc": Place(2, str(tmp_path), str(tmp_path)))
    assert total_memory() == 64 << 20
    assert available_memory() == 20 << 20


@LINUX
def test_memory_that_cannot_be_told_is_none_to_start_a_job_with(tmp_path: Path) -> None:
    assert available_memory(str(tmp_path)) == 0


@LINUX
def test_available_is_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       8000 kB\nMemFree:        100 kB\nMemAvailable:   3000 kB\n")
    assert available_memory(str(tmp_path)) == 3000 << 10


@pytest.mark.parametrize(
    ("total", "given", "most"),
    [
        (10 * GIB, None, 9 * GIB),
        (40 * GIB, None, 36 * GIB),
        (400 * GIB, None, 396 * GIB),
        (10 * GIB, 25 * GIB, 25 * GIB),
    ],
)
def test_jobs_get_all_memory_but_a_reserve(
    total: int, given: int | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "total_memory", lambda: total)
    assert max_memory(settings(max_memory=given)) == most


# --- GPUs --------------------------------------------------------------------------------------------------


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program of that name into PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(script: str) -> None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho asked >>{tmp_path}/asked\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)

    return install


def test_a_number_of_gpus_needs_no_driver(nvidia_smi: Callable[[str], None]) -> None:
    nvidia_smi("exit 9")
    assert gpu_numbers(settings(max_gpus=3)) == (0, 1, 2)
    assert gpu_numbers(settings(max_gpus=0)) == ()


def test_the_driver_s_list_is_asked_for_once(nvidia_smi: Callable[[str], None], tmp_path: Path) -> None:
    nvidia_smi('[ "$*" = "--query-gpu=index --format=csv,noheader" ] && printf "0\\n1\\n3\\n"')
    assert gpu_numbers(settings()) == (0, 1, 3)
    assert gpu_numbers(settings()) == (0, 1, 3)
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.mark.parametrize(
    "script", ["exit 9", "echo NVIDIA-SMI has failed", "echo 0; exit 1", "exec sleep 60"], ids=lambda text: text[:6]
)
def test_a_driver_that_fails_has_no_gpus(
    script: str, nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "GPU_PATIENCE", 0.5 if "sleep" in script else 30)
    nvidia_smi(script)
    assert gpu_numbers(settings()) == ()


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_numbers(settings()) == ()


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        ("2,0", (2, 0)),
        (" 1 ", (1,)),
        ("1,1,7", (1,)),
        ("", ()),
        ("-1", ()),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", ()),
        ("0,MIG-1", ()),
    ],
)
def test_only_gpus_that_this_process_may_see_are_handed_out(
    visible: str, numbers: tuple[int, ...], nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi('printf "0\\n1\\n2\\n"')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_numbers(settings()) == numbers


# --- the disk ----------------------------------------------------------------------------------------------

Usage = namedtuple("Usage", "total used free")


def test_a_disk_with_less_than_the_reserve_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1000 << 20, 920 << 20, 80 << 20))
    assert disk_short(".", 100 << 20) == "80.0 MiB of disk free, Disk_Reserve is 100.0 MiB"
    assert disk_short(".", 80 << 20) == ""
    assert disk_short(".", 0) == ""


def test_a_disk_that_does_not_say_how_full_it_is_stops_nothing(tmp_path: Path) -> None:
    assert disk_short(str(tmp_path / "gone"), 1 << 60) == ""
    assert disk_short(str(tmp_path), 1 << 60) != ""


# --- all of it ---------------------------------------------------------------------------------------------


def test_the_limits_are_what_the_settings_say() -> None:
    given = settings(max_processors=7, max_memory=3 * GIB, max_gpus=2, groups=(("io", 2),))
    assert limits(given) == Limits(processors=7, memory=3 * GIB, gpus=2, groups={"io": 2})


def test_the_limits_are_those_of_the_machine_where_the_settings_say_auto() -> None:
    found = limits(settings())
    assert found.processors == usable_processors()
    assert 0 < found.memory < total_memory()
    assert found.gpus == len(gpu_numbers(settings()))

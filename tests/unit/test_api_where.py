"""Which queue a Python program means."""

from __future__ import annotations

from pathlib import Path

import pytest

import qm
from qm.api.queue import open_queue
from qm.api.where import settings_of, spot


@pytest.fixture
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with a QMserv.cfg each; nothing names one."""
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "QMserv.cfg").write_text(
            "[QMServer]\nQM_FOLDER : .\nMaxNbProcessors : 3\njob_file : own.cfg\n"
        )
    for name in ("QM_CONFIG", "QM_FOLDER", "QM_JOB_ID", "QM_OWNER", "QM_WORKER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def inside_a_job_of(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("QM_FOLDER", str(folder))
    monkeypatch.setenv("QM_JOB_ID", "aaaaaaaaaaaa")


def test_a_folder_stands_for_the_configuration_in_it(spools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(spools / "mine").folder == str(spools / "mine")
    monkeypatch.setenv("QM_CONFIG", str(spools / "other"))
    assert settings_of().file == str(spools / "other" / "QMserv.cfg")


def test_inside_a_job_its_own_queue_is_meant_by_executors_and_by_handles(
    spools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside_a_job_of(monkeypatch, spools / "mine")
    monkeypatch.setenv("QM_CONFIG", str(spools / "other"))
    assert open_queue().root == spot().root == str(spools / "mine")
    assert open_queue().processors() == 3  # its configuration lies in it
    assert spot().job_files == ("own.cfg",)
    assert open_queue(config=str(spools / "other")).root == str(spools / "other")


def test_inside_a_job_whose_configuration_lies_elsewhere_the_defaults_hold(
    spools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spools / "bare").mkdir()
    inside_a_job_of(monkeypatch, spools / "bare")
    assert open_queue().root == str(spools / "bare")
    assert "proc_config.cfg" in spot().job_files


def test_a_worker_of_a_private_queue_means_the_one_that_is_found(spools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside_a_job_of(monkeypatch, spools / "mine")
    monkeypatch.setenv("QM_OWNER", "1 2")
    monkeypatch.chdir(spools / "other")
    assert spot().root == str(spools / "other")


@pytest.mark.usefixtures("spools")
def test_without_a_configuration_the_way_without_a_daemon_is_named() -> None:
    with pytest.raises(qm.ConfigError, match=r'no QMserv.cfg found .*config= in Python.*; launcher="local" needs none'):
        qm.Executor()
    with pytest.raises(qm.ConfigError, match=r"no QMserv.cfg found"):
        qm.jobs()

"""The files between Python callers and their workers: what they are called and how they come into view."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from qm.api import workfiles
from qm.api.lastwords import why_it_died
from qm.api.marks import process_mark
from qm.api.workfiles import Call, Chunk, Failure, Results


def test_values_survive_pickling_and_say_what_they_are() -> None:
    for value in (
        Call(1, "map", "f", (3, 11), False, ("/a",)),
        Chunk(0, 5, 2),
        Failure(b"x", "ValueError", "no", "Traceback"),
        Results(True, 3),
    ):
        assert pickle.loads(pickle.dumps(value)) == value
        assert type(pickle.loads(pickle.dumps(value))) is type(value)
        assert type(value).__doc__
    assert Chunk(0, 5, 2)._replace(first=7) == Chunk(call=0, first=7, count=2)
    assert repr(Chunk(0, 5, 2)) == "Chunk(call=0, first=5, count=2, by_value=False)"


def test_numbers_are_read_from_names_of_their_kind_only() -> None:
    number_of = workfiles.number_of
    assert number_of(workfiles.chunk_name(7), "") == 7
    assert number_of(workfiles.claim_name(7), ".claim") == 7
    assert number_of(workfiles.out_name(999_999_999), ".out") == 999_999_999
    for other in (workfiles.call_name(0), workfiles.claim_name(7), "closed", "setup.pkl", ".000000007.pkl.1.part", ""):
        assert number_of(other, "") is None


def test_a_new_file_comes_into_view_whole(tmp_path: Path) -> None:
    with workfiles.new_file(str(tmp_path), "a.pkl") as file:
        file.write(b"half")
        assert not (tmp_path / "a.pkl").exists()
    assert (tmp_path / "a.pkl").read_bytes() == b"half"


def test_after_an_error_there_is_no_file_not_even_a_hidden_one(tmp_path: Path) -> None:
    def cannot(value: Any, file: Any) -> None:
        file.write(b"something")
        raise ValueError("cannot")

    with pytest.raises(ValueError, match="cannot"):
        workfiles.write_new(str(tmp_path), "a.pkl", 1, 2, dump=cannot)
    with pytest.raises(TypeError):
        workfiles.write_new(str(tmp_path), "a.pkl", threading.Lock())
    assert os.listdir(tmp_path) == []


def test_objects_lie_one_behind_the_other(tmp_path: Path) -> None:
    workfiles.write_new(
        str(tmp_path), "a", Chunk(1, 2, 3), ["x"], dump=lambda value, file: pickle.dump(value * 2, file)
    )
    with open(tmp_path / "a", "rb") as file:
        assert (pickle.load(file), pickle.load(file)) == (Chunk(1, 2, 3), ["x", "x"])


def test_a_chunk_is_claimed_once_and_each_try_is_kept(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert workfiles.claims(here, 4) == []
    assert workfiles.claim(here, 4, "1 1")
    assert not workfiles.claim(here, 4, "2 1")
    workfiles.claim_again(here, 4, "1 2")
    assert workfiles.claims(here, 4) == ["1 1", "1 2"]


def test_a_claim_in_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        workfiles.claim(str(tmp_path / "gone"), 0, "0 1")


def test_where_there_are_no_links_a_claim_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_paths: str) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "symlink", no_links)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            workfiles.claim(str(tmp_path), 0, "0 1")
    assert workfiles.claim(str(tmp_path), 0, "1 1")
    assert not workfiles.claim(str(tmp_path), 0, "2 1")
    assert workfiles.claims(str(tmp_path), 0) == ["1 1"]
    workfiles.claim_again(str(tmp_path), 0, "1 2")
    assert workfiles.claims(str(tmp_path), 0) == ["1 1", "1 2"]


def test_a_process_mark_ends_with_its_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        mark = process_mark(child.pid)
        assert mark.split()[0] == str(child.pid)
        assert mark == process_mark(child.pid)
        assert mark != process_mark(os.getpid())
        child.communicate(b"\n")
        assert process_mark(child.pid) == ""


def test_a_worker_imports_little_before_its_first_call() -> None:
    code = (
        "import sys; before = set(sys.modules); import qm.api.workloop; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    house = str(Path(workfiles.__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {house!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"typing", "re", "pickle", "contextlib", "threading", "logging", "json", "cloudpickle", "traceback", "enum"}
    assert not heavy & set(run.stdout.split())


def test_why_a_worker_died_is_read_from_what_qm_wrote(tmp_path: Path) -> None:
    dot = tmp_path / ".qm"
    dot.mkdir()
    assert why_it_died(str(tmp_path), "0 1") == "the worker that ran it died"
    (dot / "job.json").write_text('{"history": [{"attempt": 1, "reason": "killed by SIGKILL", "exit_status": null}]}')
    assert why_it_died(str(tmp_path), "0 1") == "the worker that ran it died: killed by SIGKILL"
    (dot / "job.json").write_text('{"history": [{"attempt": 1, "reason": "exit status 7; attempt 1 of 100"}]}')
    assert why_it_died(str(tmp_path), "0 1") == "the worker that ran it died: exit status 7"
    (dot / "tasks.jsonl").write_text(
        '{"task":3,"attempt":1,"exit_status":9}\n{"task":13,"attempt":1,"exit_status":8}\n{"task":3,"attempt":2}\n[1]\n{"ha'
    )
    assert why_it_died(str(tmp_path), "3 1") == "the worker that ran it died: exit status 9"
    (dot / "job.json").write_text('{"history": "rubbish"}')
    assert why_it_died(str(tmp_path), "0 1") == "the worker that ran it died"

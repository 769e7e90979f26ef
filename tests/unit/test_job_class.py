"""Job classes without a queue: their attributes, arguments and names; which run it is; the foreground."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qm
from qm.api import classes, jobfolder, jobs
from qm.api.classes import ClassNotFound, load_class, reference_of
from qm.api.jobdata import result_in
from qm.api.runjob import prepared, run, trial_of
from qm.spool.paths import SpoolPaths
from qm.vocabulary.ini import read_ini
from qm.vocabulary.jobfile import read_job_file
from qm.vocabulary.options import Options
from qm.vocabulary.record import Record, Run, dump
from qm.vocabulary.states import State


class Plain(qm.Job):
    def execute(self, **kwargs: Any) -> Any:
        return kwargs


class Counting(qm.Job):
    """Defers until its third run."""

    defer_time = 0

    def execute(self, until: int = 3) -> int:
        if self.trial < until:
            self.defer("not yet")
        return self.trial


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], types.ModuleType]:
    """A function that writes a module and imports it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, source: str) -> types.ModuleType:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        __import__(name)
        return sys.modules[name]

    return make


def class_options_of(cls: type) -> dict[str, str]:
    return dict(jobfolder.class_options(cls, "m.C").lines)


# --- attributes ------------------------------------------------------------------------------------------------


def test_attributes_become_lines_of_the_job_file() -> None:
    class Wide(qm.Job):
        nb_proc = 4
        mem = "2G"
        wall_time = "15m"
        zombie_kill = True

    options = jobfolder.class_options(Wide, "m.Wide")
    assert options.lines == {"nb_proc": "4", "mem": "2G", "wall_time": "15m", "zombie_kill": "yes"}
    assert options.read == Options(script="true", nb_proc=4, mem=2 << 30, wall_time=900.0, zombie_kill=True)


def test_max_parallel_holds_for_the_class_unless_a_group_is_named() -> None:
    class Few(qm.Job):
        max_parallel = 5

    class Together(Few):
        group = "all of them"

    assert jobfolder.class_options(Few, "m.Few").lines["group"] == "m.Few"
    assert jobfolder.class_options(Together, "m.Together").lines["group"] == "all of them"


@pytest.mark.parametrize(
    ("name", "value"),
    [("nb_proc", 0), ("nb_proc", "four"), ("mem", "2 elephants"), ("wall_time", "soon"), ("priority", 1.5)],
)
def test_a_wrong_attribute_is_named_with_its_value_and_what_would_be_right(name: str, value: object) -> None:
    cls = type("Wrong", (Plain,), {name: value})
    with pytest.raises(ValueError, match=rf"Wrong: {name} = .*{value}.* is not understood; accepted: "):
        jobfolder.class_options(cls, "m.Wrong")


def test_a_slip_in_the_name_of_an_attribute_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Slips(Plain):
        atempts = 3
        walltime = "1h"
        memory_of_youth, size, _prioritty = "long", 4, 1  # the class's own

        def attempt(self) -> None: ...

    assert class_options_of(Slips) == {}
    assert [record.getMessage().partition("Slips.")[2] for record in caplog.records] == [
        "atempts means nothing to QM; did you mean attempts?",
        "walltime means nothing to QM; did you mean wall_time?",
    ]


def test_a_job_file_is_read_back_as_it_was_meant() -> None:
    reference = classes.Reference("m:Plain", "m.Plain")
    kwargs = jobfolder.as_json({"text": "100 % # [a]\nü\udc80", "numbers": [1, 2.5, None, True]})
    text = jobfolder.job_text(reference, {"nb_proc": "2"}, kwargs, "me\nyou", "k3v7qhx2mzpa")
    options = read_job_file("proc_config.cfg", text).options
    assert (options.nb_proc, options.script.endswith("runjob.py")) == (2, True)
    (section,) = read_ini(text.decode(), only="Job")
    given = {entry.key: entry.value for entry in section.entries}
    assert json.loads(given["kwargs"]) == {"text": "100 % # [a]\nü\udc80", "numbers": [1, 2.5, None, True]}
    assert (given["class"], given["author"], given["parent"]) == ("m:Plain", "me\\nyou", "k3v7qhx2mzpa")
    assert json.loads(given["path"])


def test_arguments_too_large_for_a_job_file_are_refused() -> None:
    with pytest.raises(ValueError, match="put the data into a file"):
        jobfolder.job_text(classes.Reference("m:C", "m.C"), {}, jobfolder.as_json({"x": "y" * (1 << 20)}), "", "")


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"when": object()}, "argument when is a object"),
        ({"data": {"a": [1, {2, 3}]}}, r"argument data\['a'\]\[1\] is a set"),
        ({"table": {1: "one"}}, "table has the key 1, a int"),
        ({"raw": b"bytes"}, "argument raw is a bytes"),
    ],
)
def test_an_argument_that_json_cannot_hold_is_named_with_its_type(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        jobfolder.as_json(kwargs)


# --- naming classes --------------------------------------------------------------------------------------------


def test_a_class_of_a_module_goes_by_its_name(module: Callable[[str, str], types.ModuleType]) -> None:
    made = module("named_classes", "class Outer:\n    class Inner:\n        pass\n")
    reference = reference_of(made.Outer.Inner)
    assert reference == ("named_classes:Outer.Inner", "named_classes.Outer.Inner", {})
    assert load_class(reference.text) is made.Outer.Inner


def test_a_class_of_a_file_goes_by_its_path_and_its_main_block_is_not_run(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("class C:\n    pass\nif __name__ == '__main__':\n    raise SystemExit('was run')\n")
    cls = load_class(f"{script}:C")
    assert load_class(f"{script}:C") is cls
    assert reference_of(cls).text == f"{script}:C"


def test_a_file_in_the_jobs_own_folder_is_taken_along(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("class C:\n    pass\n")
    reference = reference_of(load_class("own.py:C", str(tmp_path)), str(tmp_path))
    assert reference == ("own.py:C", "own.C", {"own.py": b"class C:\n    pass\n"})


def test_a_class_that_stands_in_no_module_is_pickled(tmp_path: Path) -> None:
    class Local(qm.Job):
        def execute(self) -> int:
            return 7

    reference = reference_of(Local)
    assert reference.text == "class.pkl"
    (tmp_path / "class.pkl").write_bytes(reference.files["class.pkl"])
    assert load_class("class.pkl", str(tmp_path))().execute() == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no_such_module_here:C", "No module named 'no_such_module_here'; looked in "),
        ("json:NoSuchClass", "has no NoSuchClass"),
        ("json:dumps", "that is no class: dumps"),
        ("json", "write module:Class"),
        ("/no/such/file.py:C", "there is no file /no/such/file.py"),
    ],
)
def test_a_class_that_cannot_be_found_is_told_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ClassNotFound, match=said):
        load_class(text)


def test_what_is_no_job_cannot_be_executed() -> None:
    with pytest.raises(TypeError, match=r"derived from qm\.Job"):
        qm.execute(dict)  # type: ignore[arg-type]


# --- one run ---------------------------------------------------------------------------------------------------


def history(*states: State) -> Record:
    runs = tuple(Run(number, 1.0, 2.0, state.value) for number, state in enumerate(states, 1))
    return Record("k3v7qhx2mzpa", "job", "me", State.RUNNING, 1.0, job_file="proc_config.cfg", history=runs)


def test_a_start_that_was_void_is_no_trial() -> None:
    assert trial_of(history()) == 1
    assert trial_of(history(State.PENDING, State.PENDING)) == 1
    assert trial_of(history(State.DEFERRED, State.PENDING, State.FAILED)) == 3


def folder_of_a_job(folder: Path, source: str, kwargs: str = "{}", *states: State) -> Path:
    """A job's folder as it is while it runs."""
    (folder / ".qm" / "run").mkdir(parents=True)
    (folder / ".qm" / "job.json").write_bytes(dump(history(*states)))
    (folder / "own.py").write_text(f"import qm\nclass C(qm.Job):\n    def execute(self, **kwargs):\n        {source}\n")
    (folder / "proc_config.cfg").write_text(
        f"[QMOptions]\nscript : true\n[Job]\nclass : own.py:C\nparent : abcdefghijkl\nkwargs : {kwargs}\n"
    )
    return folder


@pytest.fixture
def quiet_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """sys.path as it was, afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.usefixtures("quiet_path")
def test_what_a_job_knows_comes_from_its_folder(tmp_path: Path) -> None:
    folder = folder_of_a_job(tmp_path / "job", "return [self.trial, self.kwargs]", '{"x": 1}', State.DEFERRED)
    job, context = prepared(str(folder))
    assert (job.id, job.name, job.parent, job.folder) == ("k3v7qhx2mzpa", "job", "abcdefghijkl", str(folder))
    assert run(job, context) == 0
    assert json.loads((folder / "result.json").read_text()) == [2, {"x": 1}]


@pytest.mark.usefixtures("quiet_path")
def test_a_result_that_json_cannot_hold_is_not_kept_and_neither_is_an_older_one(tmp_path: Path) -> None:
    folder = folder_of_a_job(tmp_path / "job", "return object()")
    (folder / "result.json").write_text("1")
    assert run(*prepared(str(folder))) == 0
    assert not (folder / "result.json").exists()
    with pytest.raises(TypeError, match="what execute returned, a object, is not kept, for JSON cannot hold it"):
        result_in(str(folder))
    (folder / "own.py").write_text((folder / "own.py").read_text().replace("object()", "None"))
    sys.modules.pop(type(prepared(str(folder))[0]).__module__)
    assert run(*prepared(str(folder))) == 0
    assert result_in(str(folder)) is None


@pytest.mark.usefixtures("quiet_path")
@pytest.mark.parametrize(("source", "status"), [("self.defer('later')", 75), ("raise KeyError('x')", 1)])
def test_the_exit_status_says_how_a_run_ended(
    tmp_path: Path, source: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of_a_job(tmp_path / "job", source)
    assert run(*prepared(str(folder))) == status
    said = capsys.readouterr().err
    assert "runjob.py" not in said
    assert ("own.py" in said) is (status == 1)


@pytest.mark.usefixtures("quiet_path")
def test_progress_is_written_whole_and_not_more_often_than_anybody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of_a_job(tmp_path / "job", "pass")
    progress = folder / ".qm" / "run" / "progress"
    monkeypatch.setenv("QM_PROGRESS", str(progress))
    job, _ = prepared(str(folder))
    job.progress(0.25, "one\ntwo")
    assert progress.read_text() == "0.2500 one two\n"
    job.progress(0.5)
    assert progress.read_text().startswith("0.25")
    job.progress(1.5)
    assert progress.read_text() == "1.0000\n"


def test_children_are_known_by_the_notes_of_their_parent(tmp_path: Path) -> None:
    jobfolder.note_child(str(tmp_path), "aaaaaaaaaaaa", "Child")
    jobfolder.note_child(str(tmp_path), "bbbbbbbbbbbb", "Child")
    jobfolder.note_child(str(tmp_path), "bbbbbbbbbbbb", "Child.2")
    with (tmp_path / jobfolder.CHILDREN).open("a") as file:
        file.write('{"id": "ccccc')  # a crash
    assert jobfolder.children_of(str(tmp_path)) == {"aaaaaaaaaaaa": "Child", "bbbbbbbbbbbb": "Child.2"}


def test_a_name_is_taken_that_is_free_in_all_four_places(tmp_path: Path) -> None:
    paths = SpoolPaths(str(tmp_path))
    for place in paths.places.values():
        Path(place).mkdir()
    assert jobfolder.name_free_everywhere(paths, "v1.5") == "v1.5"
    for number, place in enumerate(paths.places.values(), 1):
        Path(place, "v1.5" if number == 1 else f"v1.5.{number}").mkdir()
    assert jobfolder.name_free_everywhere(paths, "v1.5") == "v1.5.5"


@pytest.mark.parametrize(
    ("execute", "kwargs", "said"),
    [
        (
            lambda self, name, least=1: 0,
            {"nam": 1},
            r"execute: missing a required argument: 'name'; it is exec",
        ),
        (lambda self, name: 0, {"name": 1, "x": 2}, "got an unexpected keyword argument 'x'"),
        (lambda self, **kwargs: 0, {"self": 1}, "multiple values for argument 'self'"),
        (staticmethod(lambda x: 0), {}, "missing a required argument: 'x'"),
    ],
)
def test_arguments_that_execute_does_not_take_are_refused_at_once(
    execute: object, kwargs: dict[str, Any], said: str
) -> None:
    cls = type("Narrow", (qm.Job,), {"execute": execute})
    with pytest.raises(TypeError, match=said):
        qm.execute(cls, **kwargs)


def test_arguments_may_be_called_like_our_own() -> None:
    class Wide(qm.Job):
        def execute(self, /, **kwargs: Any) -> Any:
            return kwargs

    given = {"self": 1, "target": 2, "cls": 3, "config": 4, "name": 5, "parent": 6, "kwargs": {}}
    assert qm.execute(Wide, **given) == given
    assert qm.execute(type("Static", (qm.Job,), {"execute": staticmethod(lambda self: self)}), self=7) == 7


@pytest.mark.usefixtures("quiet_path")
def test_an_object_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    folder = folder_of_a_job(tmp_path / "job", "pass")
    with (folder / "own.py").open("a") as file:
        file.write("    def __init__(self):\n        raise OSError('no such camera')\n")
    with pytest.raises(ClassNotFound, match=r"an object of own.py:C cannot be made: OSError: no such camera"):
        prepared(str(folder))


@pytest.mark.parametrize("value", [None, "half"])
def test_progress_that_is_no_number_is_an_error_in_the_foreground_too(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="float"):
        Plain().progress(value)


def test_a_program_that_ends_while_it_is_loaded_is_told(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(ClassNotFound, match=r"ends\.py:C cannot be loaded: SystemExit: 0"):
        load_class("ends.py:C", str(tmp_path))


# --- the foreground --------------------------------------------------------------------------------------------


def test_in_the_foreground_a_job_defers_by_waiting_and_its_value_comes_back() -> None:
    assert qm.execute(Counting) == 3
    assert qm.execute(Plain, a=1, b=(2, 3)) == {"a": 1, "b": [2, 3]}


def test_in_the_foreground_deferring_ends_with_defer_max() -> None:
    class Forever(Counting):
        defer_max = 0.3

    with pytest.raises(qm.JobFailed, match="inactive") as caught:
        qm.execute(Forever, until=1000)
    assert caught.value.state == "inactive"


def test_in_the_foreground_exceptions_and_wrong_arguments_come_through() -> None:
    class Failing(qm.Job):
        def execute(self) -> None:
            raise LookupError("own")

    with pytest.raises(LookupError, match="own"):
        qm.execute(Failing)
    with pytest.raises(TypeError, match="argument x is a complex"):
        qm.execute(Plain, x=1j)
    with pytest.raises(TypeError, match="Job has no method execute"):
        qm.execute(qm.Job)
    with pytest.raises(NotImplementedError, match="Job has no method execute"):
        qm.Job().execute()


def test_an_object_made_by_hand_can_be_tested_as_it_is() -> None:
    job = Counting()
    job.progress(0.5, "half")
    assert (job.trial, job.kwargs, job.id, job.execute(until=1)) == (1, {}, "", 1)


@pytest.mark.parametrize(
    ("state", "wanted", "matches"),
    [("pending", "active", True), ("done", "active", False), ("killed", "ended", True), ("held", "held", True)],
)
def test_states_are_asked_for_by_their_name_or_by_kind(state: str, wanted: str, matches: bool) -> None:
    assert jobs.matches_state(state, wanted) is matches
    assert jobs.matches_state(state, None)


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(ValueError, match="'runing' is no state; there are arriving, pending"):
        jobs.matches_state("running", "runing")

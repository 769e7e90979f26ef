"""Job classes on a real queue: divide and conquer, deferral, children, results, what goes wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import TestSpool, until

import qm
from qm.api.jobfolder import children_of

REPOSITORY = Path(__file__).resolve().parents[2]

CONQUER = """
import pathlib, time, qm

class Conquer(qm.Job):
    max_parallel = {most}
    defer_time = 0.2

    def execute(self, start, end, chunksize=None):
        if chunksize is None:
            running = pathlib.Path(__file__).parent / "running"
            mine = running / str(start)
            mine.touch()
            seen = len(list(running.iterdir()))
            time.sleep(0.2)
            mine.unlink()
            return [sum(range(start, end)), seen]
        if self.trial == 1:
            for first in range(start, end, chunksize):
                self.enqueue(Conquer, start=first, end=min(first + chunksize, end))
            self.logger.info("right after: %s", sorted({{str(child.state) for child in self.children()}}))
            self.defer("children are queued")
        left = self.children(state="active")
        if left:
            self.defer(f"{{len(left)}} children are left")
        results = [child.result() for child in self.children()]
        return {{"sum": sum(one for one, _ in results), "most": max(seen for _, seen in results), "trial": self.trial}}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], types.ModuleType]]:
    """A function that writes a module beside the spool and imports it, as a user's program would."""
    (tmp_path / "code").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    made: list[str] = []

    def make(name: str, source: str) -> types.ModuleType:
        (tmp_path / "code" / f"{name}.py").write_text(source)
        made.append(name)
        __import__(name)
        return sys.modules[name]

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def here(spool: TestSpool, monkeypatch: pytest.MonkeyPatch) -> TestSpool:
    """A spool with a daemon, found as a user's program finds it."""
    monkeypatch.setenv("QM_CONFIG", str(spool.config))
    return spool


Modules = Callable[[str, str], types.ModuleType]


@pytest.mark.parametrize("most", [1, 5])
def test_divide_and_conquer(here: TestSpool, module: Modules, tmp_path: Path, most: int) -> None:
    (tmp_path / "code" / "running").mkdir()
    cls = module(f"conquer_{most}", CONQUER.format(most=most)).Conquer
    parent = qm.enqueue(cls, start=0, end=100, chunksize=20)
    result = parent.result(timeout=60)
    assert result["sum"] == sum(range(100))
    assert result["most"] <= min(most, 2)  # the spool has two processors
    assert result["trial"] > 1
    assert parent.folder is not None
    children = [qm.job(child) for child in children_of(parent.folder)]
    assert [child.kwargs["start"] for child in children] == [0, 20, 40, 60, 80]
    assert [str(child.state) for child in children] == ["done"] * 5
    log = parent.log()
    assert "INFO deferred: children are queued" in log
    assert "gone" not in log.partition("right after:")[2].partition("\n")[0]


def test_arguments_are_readable_in_the_job_file_and_come_back_by_the_handle(here: TestSpool, module: Modules) -> None:
    cls = module(
        "readable", "import qm\nclass R(qm.Job):\n    author = 'me'\n    def execute(self, **kw): return kw\n"
    ).R
    handle = qm.enqueue(cls, text="ä % \n#", start=1)
    assert handle.name == "R"
    assert handle.result(timeout=30) == handle.kwargs == {"text": "ä % \n#", "start": 1}
    assert handle.folder is not None
    text = (Path(handle.folder) / "proc_config.cfg").read_text()
    assert "\nclass : readable:R\nauthor : me\n" in text
    assert '\nkwargs : {"text": "ä % \\n#", "start": 1}\n' in text


def test_a_job_runs_with_the_environment_and_the_modules_of_whoever_enqueued_it(
    here: TestSpool, module: Modules, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OF_THE_USER", "two\nlines")
    (tmp_path / "code" / "helper_of_jobs.py").write_text("value = 5\n")
    source = "import os, qm, helper_of_jobs\nclass E(qm.Job):\n    def execute(self):\n"
    cls = module("environed", source + "        return [os.environ['OF_THE_USER'], helper_of_jobs.value]\n").E
    assert qm.enqueue(cls).result(timeout=30) == ["two\nlines", 5]


def test_a_class_by_its_name_and_a_class_of_no_module(here: TestSpool, module: Modules) -> None:
    module("by_name", "import qm\nclass N(qm.Job):\n    def execute(self, x): return 2 * x\n")
    assert qm.enqueue("by_name:N", x=4).result(timeout=30) == 8
    factor = 3

    class Local(qm.Job):
        def execute(self, x: int) -> int:
            return factor * x

    assert qm.enqueue(Local, x=4).result(timeout=30) == 12


def test_a_class_of_the_script_itself_works_for_the_job_and_its_children(here: TestSpool, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import qm, helper\n"
        "class P(qm.Job):\n"
        "    defer_time = 0.2\n"
        "    def execute(self, depth):\n"
        "        if depth and self.trial == 1:\n"
        "            self.enqueue(P, depth=depth - 1)\n"
        "        if self.children('active'):\n"
        "            self.defer('not yet')\n"
        "        return [depth, self.parent, *(child.result()[0] for child in self.children())]\n"
        "if __name__ == '__main__':\n"
        "    print(qm.enqueue(P, depth=1).result(timeout=60))\n"
    )
    (tmp_path / "helper.py").write_text("")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=90, check=False, cwd=here.root
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[1, '', 0]\n", "", 0)


def test_an_exception_is_in_the_log_and_the_job_fails(here: TestSpool, module: Modules) -> None:
    source = "import qm\nclass F(qm.Job):\n    attempts = 2\n    error_time = 0.1\n    def execute(self):\n"
    cls = module("failing_job", source + "        self.logger.warning('at trial %d', self.trial)\n        1 / 0\n").F
    handle = qm.enqueue(cls)
    with pytest.raises(qm.JobFailed) as caught:
        handle.result(timeout=30)
    assert (caught.value.state, caught.value.exit_status) == ("failed", 1)
    assert "ZeroDivisionError: division by zero" in caught.value.log
    log = handle.log()
    assert caught.value.reason == handle.reason == "exit status 1: ZeroDivisionError: division by zero"
    assert "WARNING at trial 2" in log
    assert "qm/api" not in log


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise SystemError('no luck')", "QM: class broken_{0}:B cannot be loaded: SystemError: no luck"),
        ("import no_such_thing", "QM: class broken_{0}:B cannot be loaded: ModuleNotFoundError: No module named 'no_s"),
        ("", "broken_{0}.py has no B"),
        (None, "QM: class broken_{0}:B cannot be loaded: ModuleNotFoundError: No module named 'broken_{0}'; looked in"),
    ],
)
def test_a_class_that_cannot_be_loaded_is_told_in_a_sentence(
    here: TestSpool, module: Modules, source: str | None, said: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = f"broken_{abs(hash(request.node.name))}"
    cls = module(name, "import qm\nclass B(qm.Job):\n    def execute(self): pass\n").B
    file = tmp_path / "code" / f"{name}.py"
    if source is None:
        file.unlink()
    else:
        file.write_text(source + "\n")
    shutil.rmtree(tmp_path / "code" / "__pycache__", ignore_errors=True)
    handle = qm.enqueue(cls).wait(30)
    assert (str(handle.state), handle.exit_status) == ("failed", 78)
    log = handle.log()
    assert said.format(name.removeprefix("broken_")) in log
    assert "qm/api" not in log


def test_wrong_arguments_of_execute_are_told_without_our_own_frames(here: TestSpool, module: Modules) -> None:
    cls = module("narrow", "import qm\nclass W(qm.Job):\n    def execute(self, x): pass\n").W
    first = qm.enqueue(cls, x=1).wait(30)
    assert first.folder is not None
    copy = here.root / "by_hand"
    copy.mkdir()
    text = (Path(first.folder) / "proc_config.cfg").read_text()
    (copy / "proc_config.cfg").write_text(text.replace('kwargs : {"x": 1}', 'kwargs : {"y": 1}'))
    log = qm.submit(copy).wait(30).log()
    assert "TypeError: W.execute() got an unexpected keyword argument 'y'" in log
    assert "runjob" not in log


def test_a_program_that_queues_itself_when_it_is_loaded_does_not_do_so_without_end(
    here: TestSpool, tmp_path: Path
) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import qm\nclass B(qm.Job):\n    def execute(self): return 1\nprint(qm.enqueue(B).wait(30).log())\n"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert "queues a job as soon as it is loaded" in ran.stdout
    assert 'below `if __name__ == "__main__":`' in ran.stdout
    assert [(job.name, job.exit_status) for job in qm.jobs()] == [("B", 78)]


def test_a_result_that_was_not_kept_is_an_error_and_so_is_a_deleted_one(here: TestSpool, module: Modules) -> None:
    cls = module("unkept", "import qm\nclass U(qm.Job):\n    def execute(self): return {1, 2}\n").U
    handle = qm.enqueue(cls)
    with pytest.raises(TypeError, match="what execute returned, a set, is not kept"):
        handle.result(timeout=30)
    assert handle.state == "done"
    handle.delete()
    until(lambda: handle.folder is None, "the folder to go")
    with pytest.raises(qm.NoSuchJob, match="is done, but its folder was deleted, and its result with it"):
        handle.result()


def test_texts_of_any_kind_come_through_the_job_file(here: TestSpool, module: Modules) -> None:
    cls = module("texts", "import qm\nclass T(qm.Job):\n    def execute(self, /, **kw): return kw\n").T
    given = {
        "self": "100 % of %(x)s",
        "config": "two\nlines\r\n\tand a tab",
        "name": "\u00fcn\u00ef \u2603 \u2028 \x00 \x85 \ud800",
        "parent": "[Job]\nclass : os:system",
        "": " # ; ",
    }
    handle = qm.enqueue(cls, **given)
    assert handle.result(timeout=30) == given
    assert handle.kwargs == given


def test_why_it_is_deferred_stands_in_its_state_and_not_in_what_comes_after(here: TestSpool, module: Modules) -> None:
    source = "import qm, os\nclass D(qm.Job):\n    defer_time = 0.3\n    def execute(self):\n"
    source += "        if self.trial == 1: self.defer('waits for\\nthe tide')\n        os._exit(4)\n"
    handle = qm.enqueue(module("tidal", source).D)
    until(lambda: handle.state == "deferred" and "deferred: waits for" in handle.reason, "the reason")
    assert handle.wait(30).reason == "exit status 4"


def test_deferring_for_too_long_ends_as_inactive(here: TestSpool, module: Modules) -> None:
    source = "import qm\nclass D(qm.Job):\n    defer_time = 0.1\n    defer_max = 0.3\n    def execute(self):\n"
    handle = qm.enqueue(module("deferring", source + "        self.defer('never ready')\n").D)
    with pytest.raises(qm.JobFailed, match="inactive"):
        handle.result(timeout=30)
    assert handle.log().count("deferred: never ready") > 1


def test_progress_is_seen_while_it_runs(here: TestSpool, module: Modules) -> None:
    source = "import qm, time\nclass G(qm.Job):\n    def execute(self):\n        self.progress(0.4, 'fitting')\n"
    handle = qm.enqueue(module("progressing", source + "        time.sleep(60)\n").G)
    until(lambda: handle.progress == (0.4, "fitting"), "the progress")
    handle.kill()
    assert handle.wait(30).state == "killed"


def test_children_that_are_held_or_deleted(here: TestSpool, module: Modules) -> None:
    source = (
        "import qm\n"
        "class H(qm.Job):\n"
        "    priority = -1\n"
        "    defer_time = 0.2\n"
        "    def execute(self, child=False):\n"
        "        if child: return 1\n"
        "        if self.trial == 1:\n"
        "            for _ in range(3): self.enqueue(H, child=True)\n"
        "        print('children', [str(child.state) for child in self.children()], flush=True)\n"
        "        self.defer('for ever')\n"
    )
    parent = qm.enqueue(module("held_children", source).H)
    until(lambda: "children ['done', 'done', 'done']" in parent.log(), "the children to end")
    folder = parent.folder
    assert folder is not None
    first, second, third = (qm.job(child) for child in children_of(folder))
    first.delete()
    until(lambda: first.folder is None, "the folder to go")
    assert (first.state, first.progress) == ("done", (1.0, ""))
    shutil.rmtree(here.root / "QM_history")
    assert second.folder is not None
    shutil.rmtree(second.folder)
    until(lambda: parent.log().endswith("['done']\n") or "children ['done']" in parent.log(), "two to be left out")
    with pytest.raises(qm.NoSuchJob, match="gone"):
        _ = second.state
    assert third.state == "done"
    parent.kill()


def test_the_example_divides_and_conquers_as_it_lies_there(
    make_spool: Callable[..., TestSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make_spool()
    programs = str(Path(sys.executable).parent)
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    spool.start(env={"PATH": path, "PYTHONPATH": str(REPOSITORY)})
    monkeypatch.setenv("QM_CONFIG", str(spool.config))
    shutil.copytree(REPOSITORY / "examples" / "primes_job", spool.queue / "primes_job")
    folder = spool.wait_for("primes_job", spool.done)
    assert json.loads((folder / "result.json").read_text()) == 41538
    children = [qm.job(child) for child in children_of(str(folder))]
    assert sum(child.result() for child in children) == 41538
    assert len(children) == 5


def test_a_pool_inside_a_job_stays_within_the_jobs_own_processors(here: TestSpool, module: Modules) -> None:
    source = "import qm\nclass P(qm.Job):\n    nb_proc = 2  # all that the queue has\n    def execute(self):\n"
    cls = module("pooling", source + "        with qm.Pool() as pool:\n            return pool.map(abs, [-1, -2])\n").P
    assert qm.enqueue(cls).result(timeout=60) == [1, 2]
    assert [job.name for job in qm.jobs()] == ["P"]


def test_enqueue_without_a_daemon_waits_for_one(
    make_spool: Callable[..., TestSpool],
    module: Modules,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spool = make_spool()
    monkeypatch.setenv("QM_CONFIG", str(spool.config))
    handle = qm.enqueue(module("patient", "import qm\nclass W(qm.Job):\n    def execute(self): return 1\n").W)
    assert handle.state == "arriving"
    assert f"no QueueManager serves {spool.root}; W waits until one is started" in caplog.text
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.05 s; it goes on; no QueueManager is running"):
        handle.wait(0.05)
    spool.start()
    assert handle.result(timeout=30) == 1


def test_a_wrong_class_or_argument_queues_nothing(here: TestSpool, module: Modules) -> None:
    cls = module("wrongly", "import qm\nclass W(qm.Job):\n    mem = 'much'\n    def execute(self, **kw): pass\n").W
    with pytest.raises(ValueError, match="W: mem = 'much' is not understood; accepted: "):
        qm.enqueue(cls)
    cls.mem = None
    with pytest.raises(TypeError, match="argument x is a set"):
        qm.enqueue(cls, x={1})
    with pytest.raises(qm.ClassNotFound, match="No module named 'no_such_module'"):
        qm.enqueue("no_such_module:C")
    assert qm.jobs() == []

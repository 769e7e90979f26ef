"""The command line as a new user meets it: a new spool, where it looks for one, how it says that it cannot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TestSpool, until

QM = [sys.executable, "-m", "qm.cli.main"]


def qm(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line without `-c`, in a directory and with variables of its own."""
    known = {name: value for name, value in os.environ.items() if name != "QM_CONFIG"}
    known["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [*QM, *words],
        cwd=cwd,
        env={**known, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


# --- where the configuration is looked for ---------------------------------------------------------------------


def test_init_makes_a_spool_that_a_daemon_serves_as_it_is(tmp_path: Path) -> None:
    made = qm("init", "a spool", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "QueueManager -c 'a spool/QMserv.cfg'" in made.stdout, "as it is to be typed"
    root = tmp_path / "a spool"
    assert sorted(path.name for path in root.iterdir()) == [
        "QM_Jobs",
        "QM_dJobs",
        "QM_lost+found",
        "QM_qJobs",
        "QMserv.cfg",
    ]
    assert qm("submit", "--", "echo first", cwd=root).returncode == 0
    assert qm("daemon", "--until-empty", cwd=root).returncode == 0
    assert "first" in (root / "QM_dJobs" / "echo" / "process.log").read_text()


def test_init_leaves_a_configuration_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "QMserv.cfg").write_text("[QMServer]\nDebug : True\n")
    again = qm("init", cwd=tmp_path)
    assert again.returncode == 1 and "stays as it is" in again.stderr
    assert (tmp_path / "QMserv.cfg").read_text() == "[QMServer]\nDebug : True\n"


def test_the_configuration_is_looked_for_in_the_order_that_help_says(tmp_path: Path) -> None:
    names = ("named", "variable", "here", "home")
    spools = {name: TestSpool(tmp_path / name) for name in names}
    for name, spool in spools.items():
        spool.make("job", "true", where=spool.queue, info=name)
    user = tmp_path / "user"
    (user / ".config" / "qm").mkdir(parents=True)
    (user / ".config" / "qm" / "QMserv.cfg").write_text(f"[QMServer]\nQM_FOLDER : {spools['home'].root}\n")
    here, elsewhere = spools["here"].root, tmp_path
    variable = {"HOME": str(user), "QM_CONFIG": str(spools["variable"].config)}

    def asked(*words: str, cwd: Path, **env: str) -> str:
        said = qm(*words, "status", "--json", cwd=cwd, **env)
        assert said.returncode == 0, said.stderr
        return Path(json.loads(said.stdout)[0]["path"]).parts[-3]

    assert asked("-c", str(spools["named"].config), cwd=here, **variable) == "named"
    assert asked("-c", str(spools["named"].root), cwd=here, **variable) == "named", "a folder that has one"
    assert asked(cwd=here, **variable) == "variable"
    assert asked(cwd=here, HOME=str(user)) == "here"
    assert asked(cwd=elsewhere, HOME=str(user)) == "home"


@pytest.mark.skipif(os.path.exists("/etc/qm/QMserv.cfg"), reason="this machine has a spool of its own")
def test_without_any_configuration_it_says_where_it_looked_and_exits_78(tmp_path: Path) -> None:
    said = qm("status", cwd=tmp_path, HOME=str(tmp_path))
    assert said.returncode == 78
    assert "/etc/qm/QMserv.cfg" in said.stderr and "qm init" in said.stderr


def test_a_wrong_configuration_exits_78_and_names_line_key_and_value(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool(Settle_Time="soon")
    for words in (["status"], ["submit", "--", "true"], ["daemon"]):
        said = spool.qm(*words, check=False)
        assert said.returncode == 78
        assert re.search(r"QMserv\.cfg, line \d+: \[QMServer\] Settle_Time = 'soon'", said.stderr)
    assert list(spool.queue.iterdir()) == []


# --- help and usage --------------------------------------------------------------------------------------------


def test_help_names_every_verb_and_the_exit_statuses(tmp_path: Path) -> None:
    said = qm("--help", cwd=tmp_path).stdout
    verbs = "init check submit status show log wait kill hold release pause resume retry delete set drain undrain"
    for verb in (*verbs.split(), "daemon", "web"):
        assert re.search(rf"^    {verb} ", said, re.MULTILINE), verb
        assert qm(verb, "--help", cwd=tmp_path).returncode == 0, verb
    assert "66 no such job" in said


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["submit"],
        ["submit", "--"],
        ["submit", "--", " "],
        ["submit", "folder", "--", "true"],
        ["submit", "-n", "2", "folder"],
        ["submit", "-o", "priority", "--", "true"],
        ["submit", "--name", "x", "folder", "other"],
        ["wait"],
        ["wait", "job", "--all"],
        ["wait", "--exit-status", "job", "other"],
        ["set", "job", "priority"],
        ["status", "--watch"],
        ["status", "--watch", "--json"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_with_a_word_of_advice(make_spool: Callable[..., TestSpool], words: list[str]) -> None:
    said = make_spool().qm(*words, check=False)
    assert said.returncode == 2, said.stderr
    assert said.stderr and "Traceback" not in said.stderr


@pytest.mark.parametrize("verb", ["show", "log", "wait", "kill", "retry", "delete", "status"])
def test_an_unknown_job_exits_66_and_names_it(make_spool: Callable[..., TestSpool], verb: str) -> None:
    said = make_spool().qm(verb, "no such", check=False)
    assert said.returncode == 66
    assert "'no such'" in said.stderr


def test_a_request_without_a_daemon_exits_75_and_is_obeyed_by_the_next(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    spool.qm("submit", "--name", "early", "--", "true")
    said = spool.qm("hold", "early", check=False)
    assert said.returncode == 75
    assert "no QueueManager is running" in said.stderr and "obeyed" in said.stderr
    spool.start()
    until(lambda: [job["state"] for job in spool.status()] == ["held"], "the hold to be obeyed before the job starts")


def test_a_request_for_a_folder_that_still_arrives_waits_for_it(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool(Settle_Time=1.5)
    spool.start()
    spool.make("slow", "echo never", where=spool.queue)
    said = spool.qm("hold", "slow")
    assert "held" in said.stdout
    assert [job["state"] for job in spool.status()] == ["held"]


def test_a_pipe_that_closes_early_is_no_accident(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    for number in range(20):
        spool.make(f"job{number:02}", "true", where=spool.queue)
    command = [*QM, "-c", str(spool.config), "status", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        assert listing.stdout is not None and listing.stderr is not None
        listing.stdout.close()
        assert listing.stderr.read() == b""
        assert listing.wait() == 1


# --- check -----------------------------------------------------------------------------------------------------


def test_check_says_ok_or_what_is_wrong_of_each_folder(make_spool: Callable[..., TestSpool]) -> None:
    spool = make_spool()
    good = spool.make("good", "echo hello\necho more", nb_proc=2)
    wide = spool.make("wide", "true", nb_proc=64)
    bad = spool.make("bad", "true", nb_proc="twelve")
    empty = spool.root / "empty"
    empty.mkdir()
    said = spool.qm("check", *map(str, (good, bad, wide, empty, spool.root / "none")), check=False)
    assert said.returncode == 1
    assert f"{good}: ok (proc_config.cfg, nb_proc 2, script: echo hello)" in said.stdout
    assert "lowered" in said.stdout
    assert "nb_proc" in said.stderr and "no job file" in said.stderr and "is not a folder" in said.stderr
    assert spool.qm("check", str(good), str(wide)).returncode == 0
    assert list(spool.queue.iterdir()) == []


def test_check_needs_no_configuration(tmp_path: Path, make_spool: Callable[..., TestSpool]) -> None:
    folder = make_spool().make("good", "true")
    assert qm("check", str(folder), cwd=tmp_path, HOME=str(tmp_path)).returncode == 0

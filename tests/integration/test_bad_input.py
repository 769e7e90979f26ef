"""Bad job files, hostile names, strange files: a clear message, nothing lost, and the other jobs go on."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import TestSpool, lines_of, until

MakeSpool = Callable[..., TestSpool]

CONFIG = b"[QMOptions]\nscript : true\n"
XML = '<PARAMETER><script value="true"/></PARAMETER>'
DOCTYPE = '<!DOCTYPE P [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
OUTSIDE_ENTITY = '<!DOCTYPE P [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestSpool]:
    """One daemon for all the folders of this module that are bad in a way of their own."""
    spool = TestSpool(tmp_path_factory.mktemp("bad") / "spool", Settle_Time=0.1, Poll_Interval=0.2)
    spool.start()
    yield spool
    spool.close()


@pytest.fixture
def counted(shared: TestSpool) -> Iterator[TestSpool]:
    """The shared daemon; at the end it must still serve, and have nothing left to do."""
    assert shared.daemon is not None and shared.daemon.poll() is None, "an earlier test ended the daemon"
    yield shared
    assert shared.daemon.poll() is None, shared.log()
    name = f"witness_{len(os.listdir(shared.done))}"
    shared.drop(name, "true")
    shared.wait_for(name, shared.done)
    until(lambda: not os.listdir(shared.queue) and not os.listdir(shared.jobs), "an empty queue")


_names = iter(range(1_000_000))


def drop_file(spool: TestSpool, file: str, data: bytes) -> str:
    """Rename a folder with just this job file into the queue; its name."""
    name = f"bad_{next(_names)}"
    made = spool.root / "made" / name
    made.mkdir(parents=True)
    (made / file).write_bytes(data)
    os.rename(made, spool.queue / name)
    return name


def assert_invalid(spool: TestSpool, name: str, *said: str) -> Path:
    """It is filed as invalid, with the reason in its record, its log and the daemon's log."""
    folder = spool.wait_for(name)
    record = spool.record(folder)
    assert (folder.parent, record["state"]) == (spool.lost, "invalid"), record["reason"]
    for text in (record["reason"], (folder / "process.log").read_text(errors="replace")):
        for words in said:
            assert words in text
    until(lambda: any(name in line and "invalid: " in line for line in spool.log().splitlines()))
    return folder


# --- job files -----------------------------------------------------------------------------------------------

BAD_CONFIGS = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\t\n", "is empty"),
    "binary": (b"\x7fELF\x02\x01\x01\0\0\0" + bytes(range(256)), "NUL"),
    "latin-1": (CONFIG + "info : Zürich\n".encode("latin-1"), "UTF-8"),
    "utf-16": (CONFIG.decode().encode("utf-16"), "save it as UTF-8|no text file"),
    "no section": (b"script : true\n", "[QMOptions]"),
    "another section only": (b"[Proc]\nSize : 3\n", "[QMOptions]"),
    "no script": (b"[QMOptions]\nnb_proc : 1\n", "script"),
    "empty script": (b"[QMOptions]\nscript :   \n", "script"),
    "no key": (CONFIG + b"just words\n", "line 3"),
    "key twice": (CONFIG + b"script : false\n", "twice"),
    "key twice in other letters": (CONFIG + b"Script : false\n", "twice"),
    "section twice": (CONFIG + b"[QMOptions]\nnb_proc : 1\n", "twice"),
    "nb_proc a word": (CONFIG + b"nb_proc : twelve\n", "'twelve'"),
    "nb_proc 0": (CONFIG + b"nb_proc : 0\n", "'0'"),
    "nb_proc below 0": (CONFIG + b"nb_proc : -3\n", "'-3'"),
    "nb_proc a fraction": (CONFIG + b"nb_proc : 1.5\n", "'1.5'"),
    "nb_proc nothing": (CONFIG + b"nb_proc :\n", "nb_proc"),
    "nb_proc a huge number": (CONFIG + b"nb_proc : " + b"9" * 5000 + b"\n", "nb_proc"),
    "priority a word": (CONFIG + b"priority : high\n", "'high'"),
    "wall_time a word": (CONFIG + b"wall_time : long\n", "'long'"),
    "mem a word": (CONFIG + b"mem : much\n", "'much'"),
    "hold a number": (CONFIG + b"hold : 7\n", "'7'"),
    "array too large": (CONFIG + b"array : 0-99999999999\n", "array"),
    "NUL in a value": (CONFIG + b"info : a\0b\n", "NUL"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_proc_config_is_invalid_and_the_message_says_why(counted: TestSpool, case: str) -> None:
    data, said = BAD_CONFIGS[case]
    name = drop_file(counted, "proc_config.cfg", data)
    folder = assert_invalid(counted, name, "proc_config.cfg")
    assert any(words in counted.record(folder)["reason"] for words in said.split("|"))
    assert (folder / "proc_config.cfg").read_bytes() == data, "nothing is lost"


BAD_XML = {
    "empty": (b"", "is empty"),
    "no XML": (b"nb_proc : 1", "line 1"),
    "cut off": (XML[:-5].encode(), "well-formed"),
    "another root": (XML.replace("PARAMETER", "PARAMS").encode(), "<PARAMETER>"),
    "DOCTYPE": ((DOCTYPE + XML).encode(), "DOCTYPE"),
    "entities": ((DOCTYPE + XML.replace("true", "&b;")).encode(), "DOCTYPE"),
    "an outside entity": ((OUTSIDE_ENTITY + XML.replace("true", "&x;")).encode(), "DOCTYPE"),
    "an undeclared entity": (XML.replace("true", "&nothing;").encode(), "line 1"),
    "an unknown encoding": (b'<?xml version="1.0" encoding="klingon"?>' + XML.encode(), "encoding"),
    "another encoding than it says": (
        b'<?xml version="1.0" encoding="utf-8"?>' + XML.replace("true", "tr\xfce").encode("latin-1"),
        "line 1",
    ),
    "key twice": (XML.replace("</P", '<script value="false"/></P').encode(), "twice"),
    "no script": (b"<PARAMETER><nb_proc value='1'/></PARAMETER>", "script"),
    "nb_proc a word": (XML.replace("</P", '<nb_proc value="twelve"/></P').encode(), "'twelve'"),
    "NUL": (XML.encode() + b"\0", "line 1"),
    "very deep": (b"<PARAMETER>" * 90_000, "well-formed"),
}


@pytest.mark.parametrize("case", BAD_XML)
@pytest.mark.parametrize("file", ["info.xml", "infos.xml"])
def test_a_bad_xml_file_is_invalid_and_the_message_says_why(counted: TestSpool, case: str, file: str) -> None:
    data, said = BAD_XML[case]
    assert_invalid(counted, drop_file(counted, file, data), file, said)


BAD_SCRIPTS = {
    "empty": (b"", "is empty"),
    "no interpreter": (b"#!\ntrue\n", "line 1"),
    "nb_proc a word": (b"#!/bin/sh\n#QM nb_proc = twelve\ntrue\n", "'twelve'"),
    "no key": (b"#!/bin/sh\n#QM nb_proc\ntrue\n", "line 2"),
    "key twice": (b"#QM nb_proc = 1\n#QM nb_proc = 2\ntrue\n", "twice"),
    "SBATCH time a word": (b"#!/bin/sh\n#SBATCH --time=long\ntrue\n", "long"),
    "an option that is no UTF-8": (b"#!/bin/sh\n#QM info = Z\xfcrich\ntrue\n", "UTF-8"),
}


@pytest.mark.parametrize("case", BAD_SCRIPTS)
def test_a_bad_job_script_is_invalid_and_the_message_says_why(counted: TestSpool, case: str) -> None:
    data, said = BAD_SCRIPTS[case]
    assert_invalid(counted, drop_file(counted, "job.sh", data), "job.sh", said)


@pytest.mark.parametrize("file", ["proc_config.cfg", "info.xml", "job.sh"])
def test_a_job_file_of_100_mb_is_refused_without_reading_it(counted: TestSpool, file: str) -> None:
    name = f"large_{next(_names)}"
    made = counted.root / "made" / name
    made.mkdir(parents=True)
    (made / file).write_bytes(CONFIG)
    os.truncate(made / file, 100 << 20)
    os.rename(made, counted.queue / name)
    assert_invalid(counted, name, file, "larger than 1 MiB")
    assert counted.daemon is not None
    status = Path(f"/proc/{counted.daemon.pid}/status")
    if status.exists():
        peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        assert peak < 100 << 10, "KiB; the file was not taken into memory"


GOOD_FILES = {
    "a byte order mark": ("proc_config.cfg", b"\xef\xbb\xbf" + CONFIG),
    "lines of Windows": ("proc_config.cfg", CONFIG.replace(b"\n", b"\r\n")),
    "keys in capitals": ("proc_config.cfg", b"[qmoptions]\nSCRIPT = true\nNB_PROC = 1\n"),
    "other sections": ("proc_config.cfg", b"[Proc]\nSize : 3\nSize : 4\nno key\n" + CONFIG),
    "UTF-16 XML": ("info.xml", XML.encode("utf-16")),
    "latin-1 XML that says so": (
        "info.xml",
        b'<?xml version="1.0" encoding="latin-1"?>'
        + XML.replace("/><", '/><info value="Z\xfcrich"/><').encode("latin-1"),
    ),
    "a script with bytes behind it": ("job.sh", b"#!/bin/sh\nexit 0\n\xff\xfe\0\x80binary\n"),
}


@pytest.mark.parametrize("case", GOOD_FILES)
def test_an_odd_job_file_that_can_be_understood_runs(counted: TestSpool, case: str) -> None:
    folder = counted.wait_for(drop_file(counted, *GOOD_FILES[case]), counted.done)
    assert counted.record(folder)["state"] == "done"


# --- job files that are no files -----------------------------------------------------------------------------


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        before = os.getcwd()
        os.chdir(path.parent)  # the name of a socket may have 107 bytes at most (unix(7))
        try:
            server.bind(path.name)
        finally:
            os.chdir(before)


def _device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: reading it would never end
    except PermissionError:
        pytest.skip("only root may make device files")


STRANGE: dict[str, Callable[[Path], None]] = {
    "link": _link,
    "dangling link": _dangling,
    "loop": _loop,
    "FIFO": lambda path: os.mkfifo(path),
    "socket": _socket,
    "device": _device,
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("file", ["proc_config.cfg", "info.xml", "job.sh"])
def test_a_job_file_that_is_no_regular_file_is_invalid_and_not_opened(counted: TestSpool, kind: str, file: str) -> None:
    name = f"strange_{next(_names)}"
    made = counted.root / "made" / name
    made.mkdir(parents=True)
    STRANGE[kind](made / file)
    os.rename(made, counted.queue / name)
    folder = assert_invalid(counted, name, file)
    assert os.path.lexists(folder / file)
    if "link" in kind:
        assert "symbolic link" in counted.record(folder)["reason"]


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_files_in_a_job_folder_disturb_nothing(counted: TestSpool, kind: str) -> None:
    name = f"holds_{next(_names)}"
    made = counted.make(name, "true")
    (made / "deep").mkdir()
    STRANGE[kind](made / "deep" / "x")
    if kind in ("FIFO", "socket", "device"):
        os.rename(made, counted.queue / name)
    else:
        shutil.copytree(made, counted.queue / name, symlinks=True)
    folder = counted.wait_for(name, counted.done)
    assert os.path.lexists(folder / "deep" / "x")


# --- what lies where QM writes -------------------------------------------------------------------------------

TRAPS = [
    ".qm",
    ".qm/job.json",
    ".qm/job.json.new",
    ".qm/run",
    ".qm/id",
    ".qm/run/1.start",
    ".qm/run/1.exit",
    "process.log",
]


@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
@pytest.mark.parametrize("place", TRAPS)
def test_whatever_lies_where_qm_writes_is_not_followed_and_stops_nothing(
    counted: TestSpool, place: str, kind: str
) -> None:
    outside = counted.root / "outside"
    outside.write_text("precious")
    name = f"trap_{next(_names)}"
    made = counted.make(name, "true")
    (made / place).parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        (made / place).symlink_to(outside)
    else:
        STRANGE[kind](made / place)
    os.rename(made, counted.queue / name)
    folder = counted.wait_for(name)
    assert counted.record(folder)["state"] == "done"
    assert outside.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
def test_an_environment_file_that_is_no_file_is_not_read(counted: TestSpool, kind: str) -> None:
    name = f"env_{next(_names)}"
    made = counted.make(name, "env")
    (made / ".qm").mkdir()
    STRANGE[kind](made / ".qm" / "env")
    os.rename(made, counted.queue / name)
    folder = counted.wait_for(name)
    assert "root:" not in (folder / "process.log").read_text()


def test_an_environment_file_that_was_spoiled_while_the_job_waited_holds_up_no_other(make_spool: MakeSpool) -> None:
    spool = make_spool(Poll_Interval=60)
    spool.start()
    spool.drop("spoiled", "true", hold="yes")
    record = spool.queue / "spoiled" / ".qm" / "job.json"
    until(record.exists)
    (record.parent / "env").symlink_to("/etc/passwd")
    spool.qm("release", "spoiled")
    assert spool.record(spool.wait_for("spoiled", spool.lost))["state"] == "invalid"
    spool.drop("next", "true")
    spool.wait_for("next", spool.done)


def test_links_of_folders_out_of_the_spool_are_not_followed(counted: TestSpool) -> None:
    outside = counted.root / "outside_folder"
    (outside / "job").mkdir(parents=True)
    (outside / "job" / "proc_config.cfg").write_bytes(CONFIG)
    name = f"links_{next(_names)}"
    made = counted.make(name, "true")
    for link, target in (("absolute", outside), ("relative", "../../../outside_folder"), (".qm", outside)):
        (made / link).symlink_to(target)
    shutil.copytree(made, counted.queue / name, symlinks=True)
    folder = counted.wait_for(name, counted.done)
    assert (folder / "absolute").is_symlink() and (folder / "relative").is_symlink()
    counted.qm("delete", name)
    until(lambda: not folder.exists())
    assert sorted(os.listdir(outside)) == ["job"]
    assert os.listdir(outside / "job") == ["proc_config.cfg"]


def test_garbage_for_a_record_counts_as_none(counted: TestSpool) -> None:
    for garbage in (b"", b"{}", b"[]", b'{"format": 99}', b"\xff" * 100, b"[" * 100_000, b'{"format": 1, "id": 7}'):
        name = f"garbage_{next(_names)}"
        made = counted.make(name, "true")
        (made / ".qm").mkdir()
        (made / ".qm" / "job.json").write_bytes(garbage)
        os.rename(made, counted.queue / name)
        assert counted.record(counted.wait_for(name, counted.done))["name"] == name


def test_a_given_id_that_is_none_is_not_used(counted: TestSpool) -> None:
    for given in (b"", b"../../../../x", b"A" * 12, b"abcdefghijk\n", b"\xff" * 12, b"a" * 1000):
        name = f"id_{next(_names)}"
        made = counted.make(name, "true")
        (made / ".qm").mkdir()
        (made / ".qm" / "id").write_bytes(given)
        os.rename(made, counted.queue / name)
        found = counted.record(counted.wait_for(name, counted.done))["id"]
        assert len(found) == 12 and found.encode() != given.strip()


# --- names ---------------------------------------------------------------------------------------------------

NAMES = {
    "spaces": b"  two  words ",
    "quotes": b'it\'s "quoted" `here`',
    "dollars": b"$(touch ran) $HOME ${x}",
    "a newline": b"first\nJob finished at: never",
    "a tab and a bell": b"a\tb\a\r",
    "dots": b"a..b..",
    "an option": b"-rf",
    "a long option": b"--help",
    "a star": b"*",
    "a backslash": b"back\\slash\\n",
    "percent and braces": b"%s %d {0} {}",
    "a terminal sequence": b"\x1b[31mred\x1b]0;title\x07",
    "emojis": "😀".encode() * 63,
    "no UTF-8": b"caf\xe9 \xff\xfe",
    "255 bytes": b"x" * 255,
    "255 bytes that are no UTF-8": b"\xff" * 255,
    "an equals sign": b"A=B",
    "a hash": b"#QM hold = yes",
    "a semicolon": b"; rm -rf ~#",
    "like a record": b"job.json",
}


@pytest.mark.parametrize("case", NAMES)
def test_a_job_may_have_any_name_that_a_folder_may_have(counted: TestSpool, case: str) -> None:
    name = os.fsdecode(NAMES[case])
    script = 'printf "<%s>" "$QM_JOB_NAME" "${PWD##*/}" > names'
    counted.drop(name, script)
    folder = counted.wait_for(name, counted.done)
    assert (folder / "names").read_bytes() == b"<%b><%b>" % (NAMES[case], NAMES[case])
    record = counted.record(folder)
    assert record["name"] == name
    assert all(char.isprintable() for line in counted.log().split("\n") for char in line)
    counted.drop(name, script)
    until(lambda: len(list(counted.done.glob("*/names"))) == 2, "the second of that name")
    assert not (counted.done / "ran").exists()
    shown = [job["id"] for job in counted.status() if job["name"] == name]
    assert record["id"] in shown and len(shown) == 2
    for path in counted.done.glob("*/names"):
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("case", ["a newline", "no UTF-8", "quotes", "an option", "a terminal sequence"])
def test_the_command_line_takes_and_shows_such_names_safely(counted: TestSpool, case: str) -> None:
    name = os.fsdecode(NAMES[case])
    counted.drop(name, "echo from the log")
    folder = counted.wait_for(name, counted.done)
    assert "from the log" in counted.qm("log", "--", name).stdout
    shown = counted.qm("show", "--", name).stdout
    assert counted.record(folder)["id"] in shown
    assert all(char.isprintable() for char in shown.replace("\n", ""))
    counted.qm("delete", "--", name)
    until(lambda: not folder.exists())


# --- scripts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "status"), [("./nothing", 127), ("nothing-of-that-name now", 127), ("./data", 126)])
def test_a_script_that_does_not_exist_or_cannot_run_fails_and_says_so(
    counted: TestSpool, script: str, status: int
) -> None:
    name = f"missing_{next(_names)}"
    (counted.make(name, script) / "data").write_text("no program")
    os.rename(counted.root / "made" / name, counted.queue / name)
    folder = counted.wait_for(name, counted.lost)
    record = counted.record(folder)
    assert (record["state"], record["exit_status"]) == ("failed", status)
    log = lines_of(folder / "process.log")
    assert any(script.split()[0] in line for line in log[1:-1]), "the shell's own message"
    assert log[-1].endswith(f"with code {status}")


def test_a_script_longer_than_the_system_allows_is_invalid(counted: TestSpool) -> None:
    name = f"long_{next(_names)}"
    counted.drop(name, "echo " + "x" * 300_000)
    assert_invalid(counted, name, "longer than the system allows")


def test_a_directory_to_run_in_that_does_not_exist_fails_and_says_so(counted: TestSpool) -> None:
    name = f"chdir_{next(_names)}"
    counted.drop(name, "true", chdir="not/there")
    folder = counted.wait_for(name, counted.lost)
    assert counted.record(folder)["state"] == "failed"
    assert "not/there" in (folder / "process.log").read_text()


def test_an_output_file_that_cannot_be_made_fails_the_job_alone(counted: TestSpool) -> None:
    name = f"output_{next(_names)}"
    counted.drop(name, "true", output="not/there")
    assert counted.record(counted.wait_for(name, counted.lost))["state"] == "failed"


def test_a_folder_tree_that_is_very_deep_runs(counted: TestSpool) -> None:
    name = f"deep_{next(_names)}"
    made = counted.make(name, "true")
    subprocess.run(["mkdir", "-p", made / "/".join(["d"] * 400)], check=True)
    shutil.move(made, counted.queue / name)
    assert counted.record(counted.wait_for(name, counted.done))["state"] == "done"


# --- the configuration and the log ---------------------------------------------------------------------------


def test_a_log_of_the_job_that_is_a_link_is_kept_as_a_link_beside_the_new_one(counted: TestSpool) -> None:
    outside = counted.root / "outside_log"
    outside.write_text("precious")
    name = f"log_{next(_names)}"
    (counted.make(name, "echo mine") / "process.log").symlink_to(outside)
    os.rename(counted.root / "made" / name, counted.queue / name)
    folder = counted.wait_for(name, counted.done)
    assert outside.read_text() == "precious"
    assert (folder / "process.log.1").is_symlink()
    assert "mine" in lines_of(folder / "process.log") and not (folder / "process.log").is_symlink()


def test_a_job_that_replaces_its_log_by_a_link_writes_nowhere_else(counted: TestSpool) -> None:
    outside = counted.root / "outside_log_2"
    outside.write_text("precious")
    name = f"relog_{next(_names)}"
    counted.drop(name, f"rm process.log; ln -s {outside} process.log")
    folder = counted.wait_for(name, counted.done)
    assert outside.read_text() == "precious"
    assert counted.record(folder)["state"] == "done"


SPOILING = ["rm -r .qm", "rm -r .qm/run", "chmod 0 .qm/run", "mv .qm away; touch .qm", "rm -r *; rm -r .qm"]


@pytest.mark.parametrize("script", [*SPOILING, "rm -r .qm; exit 70", "chmod 555 .qm/run; exit 70"])
def test_a_job_that_spoils_its_own_hidden_folder_runs_once_and_is_filed(counted: TestSpool, script: str) -> None:
    name = f"spoils_{next(_names)}"
    counted.drop(name, f"echo ran >> {counted.root}/ran_{name}; {script}")
    until(lambda: (counted.done / name).exists() or (counted.lost / name).exists(), f"{name}: {script}")
    assert lines_of(counted.root / f"ran_{name}") == ["ran"]

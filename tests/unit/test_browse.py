"""Looking into a job's folder: only what lies in it, no link followed, nothing but regular files opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from qm.spool.browse import FILE, FOLDER, LINK, OTHER, JobFolder, NotShown, Parts, parts_of
from qm.vocabulary.errors import Blocked


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "QM_dJobs" / "fit"
    (folder / ".qm").mkdir(parents=True)
    (folder / ".qm" / "env").write_text("SECRET=1\0")
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.txt").write_text("deep")
    (folder / "a.txt").write_text("hello")
    return folder


def read(job: Path, path: str) -> bytes:
    with JobFolder(str(job)) as folder:
        fd = folder.open(parts_of(path))
        try:
            return os.read(fd, 1000)
        finally:
            os.close(fd)


def test_files_are_read_and_folders_listed_folders_first(job: Path) -> None:
    with JobFolder(str(job)) as folder:
        entries = folder.list(()).entries
        assert [(entry.name, entry.kind) for entry in entries] == [("sub", FOLDER), ("a.txt", FILE)]
        assert entries[1].size == 5
        assert [entry.name for entry in folder.list(("sub",)).entries] == ["deep.txt"]
        assert folder.look(parts_of("sub/deep.txt")).size == 4
        assert folder.look(()).kind == FOLDER
    assert read(job, "sub/deep.txt") == b"deep"


@pytest.mark.parametrize(
    "path",
    [
        "..", "../fit/a.txt", "sub/../a.txt", "sub/..", ".", "./a.txt", "sub//deep.txt", "/etc/passwd", "/", "a\0b",
        "\0", "sub/./deep.txt", ".qm", ".qm/env", ".qm.old", ".qm.abc/job.json", ".QM/env", "a/" * 300,
    ],
)  # fmt: skip
def test_a_path_that_could_lead_elsewhere_is_no_path(path: str) -> None:
    with pytest.raises(NotShown):
        parts_of(path)


def test_a_slash_at_the_end_of_a_folder_is_allowed() -> None:
    assert parts_of("a/b/") == ("a", "b")
    assert parts_of("") == ()
    assert parts_of("sub/.qm/env") == ("sub", ".qm", "env")


def test_what_qm_keeps_in_a_job_is_not_listed_nor_walked(job: Path) -> None:
    (job / ".qm.old").mkdir()
    (job / ".qmrc").write_text("the user's own")
    with JobFolder(str(job)) as folder:
        assert [entry.name for entry in folder.list(()).entries] == ["sub", ".qmrc", "a.txt"]
        walked = {"/".join(parts) for parts, _ in folder.walk(lambda parts, why: None)}
    assert walked == {"sub", "sub/deep.txt", ".qmrc", "a.txt"}


def test_links_are_listed_with_their_target_and_never_followed(job: Path) -> None:
    (job / "passwd").symlink_to("/etc/passwd")
    (job / "etc").symlink_to("/etc")
    (job / "me").symlink_to("a.txt")
    (job / "env").symlink_to(".qm/env")
    with JobFolder(str(job)) as folder:
        links = {entry.name: entry.target for entry in folder.list(()).entries if entry.kind == LINK}
        assert links == {"passwd": "/etc/passwd", "etc": "/etc", "me": "a.txt", "env": ".qm/env"}
        assert folder.look(("passwd",)).kind == LINK
        for path in ("passwd", "etc", "me", "env"):
            with pytest.raises(NotShown):
                folder.open((path,))
        for parts in (("etc",), ("etc", "ssl")):
            with pytest.raises(NotShown):
                folder.list(parts)
        with pytest.raises(NotShown):
            folder.open(("etc", "passwd"))
        with pytest.raises(NotShown):
            folder.look(("etc", "passwd"))
        assert {"etc", "passwd"} <= {parts[0] for parts, _ in folder.walk(lambda parts, why: None)}


def test_a_job_folder_that_is_a_link_is_not_there(job: Path) -> None:
    (job.parent / "door").symlink_to("/etc")
    for name in ("door", "missing", "fit/a.txt"):
        with pytest.raises(NotShown):
            JobFolder(str(job.parent / name))


def test_a_place_that_is_a_link_is_the_spools_own_affair(job: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(job.parent)
    with JobFolder(str(tmp_path / "elsewhere" / "fit")) as folder:
        assert folder.look(("a.txt",)).size == 5


def test_pipes_sockets_and_folders_are_not_opened(job: Path) -> None:
    os.mkfifo(job / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(job, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        with JobFolder(str(job)) as folder:
            assert folder.look(("pipe",)).kind == OTHER
            for name in ("pipe", "socket", "sub", "missing"):
                with pytest.raises(NotShown):
                    folder.open((name,))
            with pytest.raises(NotShown):
                folder.open(())


def test_a_folder_that_becomes_a_link_while_it_is_walked_is_not_followed(job: Path) -> None:
    outside = job.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("1")
    found: list[Parts] = []
    told: list[Parts] = []
    with JobFolder(str(job)) as folder:
        for parts, _ in folder.walk(lambda parts, why: told.append(parts)):
            found.append(parts)
            if parts == ("sub",):
                os.rename(job / "sub", job / "was")
                (job / "sub").symlink_to(outside)
    assert ("sub", "secret") not in found
    assert ("sub",) in told


def test_an_open_job_is_followed_while_it_moves(job: Path) -> None:
    with JobFolder(str(job)) as folder:
        os.rename(job, job.parent / "fit.2")
        assert folder.look(("a.txt",)).size == 5


def test_a_huge_folder_is_listed_in_part_and_says_how_much_is_missing(job: Path) -> None:
    for number in range(30):
        (job / "sub" / f"{number:03}").write_text("")
    (job / "sub" / "zfolder").mkdir()
    with JobFolder(str(job)) as folder:
        found = folder.list(("sub",), most=10)
    assert [entry.name for entry in found.entries] == ["zfolder", *(f"{number:03}" for number in range(9))]
    assert found.more == 22


def test_names_of_any_bytes_are_what_they_are(job: Path) -> None:
    names = ["line\nbreak", "<b>&", os.fsdecode(b"\xff\xfe"), " ", "…", "%2e%2e", "a\\b"]
    for name in names:
        (job / name).write_text(name[:1].encode("utf-8", "replace").decode())
    with JobFolder(str(job)) as folder:
        listed = {entry.name for entry in folder.list(()).entries}
    assert set(names) <= listed
    for name in names:
        read(job, name)


def test_what_may_not_be_read_is_told_as_that(job: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (job / "sub").chmod(0)
    (job / "a.txt").chmod(0)
    told = []
    try:
        with JobFolder(str(job)) as folder:
            with pytest.raises(Blocked):
                folder.open(("a.txt",))
            with pytest.raises(Blocked):
                folder.list(("sub",))
            list(folder.walk(lambda parts, why: told.append(parts)))
    finally:
        (job / "sub").chmod(0o700)
    assert told == [("sub",)]


def test_no_descriptor_is_left_open(job: Path) -> None:
    before = os.listdir("/proc/self/fd")
    (job / "link").symlink_to("a.txt")
    with JobFolder(str(job)) as folder:
        folder.list(("sub",))
        os.close(folder.open(("a.txt",)))
        list(folder.walk(lambda parts, why: None))
        for parts in (("link",), ("missing", "x"), ("a.txt", "x")):
            with pytest.raises(NotShown):
                folder.open(parts)
    assert len(os.listdir("/proc/self/fd")) == len(before)

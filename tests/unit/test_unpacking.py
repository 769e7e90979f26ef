"""Unpacking archives that somebody sent: what is well made goes in, whatever else stays out, and leaves nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import io
import os
import random
import stat
import struct
import subprocess
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from qm.spool.paths import SpoolPaths
from qm.spool.unpacking import Limits
from qm.spool.uploads import submit_archive, without_suffix
from qm.vocabulary.errors import JobFileError, QMError, TryAgain

NAMES = ("proc_config.cfg", "info.xml", "infos.xml", "job.sh")
JOB = b"[QMOptions]\nscript : echo hello\n"
LIMITS = Limits(size=50 << 20, files=1000)


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    (tmp_path / "QM_qJobs").mkdir()
    return tmp_path / "QM_qJobs"


def send(queue: Path, data: bytes, name: str = "mine.tar.gz", limits: Limits = LIMITS) -> tuple[Path, list[str]]:
    """The folder of the job that the archive became, and the notes."""
    job, _, notes = submit_archive(SpoolPaths(str(queue.parent)), io.BytesIO(data), name, NAMES, limits)
    return queue / job.name, notes


def refused(queue: Path, data: bytes, limits: Limits = LIMITS) -> str:
    """Why the archive is refused; nothing of it may be left."""
    with pytest.raises(QMError) as caught:
        send(queue, data, limits=limits)
    assert os.listdir(queue) == [], "something was left behind"
    assert str(queue) not in str(caught.value) or isinstance(caught.value, TryAgain)
    return str(caught.value)


def member(name: str, data: bytes = b"", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, data


def tar(
    *given: tuple[tarfile.TarInfo, bytes], mode: str = "w", job: bool = True, form: int = tarfile.PAX_FORMAT
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for info, data in (*([member("job.sh", b"echo hello\n")] if job else []), *given):
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def zipped(*given: tuple[str | zipfile.ZipInfo, bytes], job: bool = True) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (*([("job.sh", b"echo hello\n")] if job else []), *given):
            archive.writestr(name, data)
    return file.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


# --- what is well made ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_archive_becomes_a_job_under_its_own_name(queue: Path, mode: str, form: int) -> None:
    data = tar(member("./data/in.txt", b"x" * 5000), mode=mode, form=form)
    folder, notes = send(queue, data, "fit.v2.tar.gz")
    assert folder.name == "fit.v2"
    assert (folder / "data" / "in.txt").read_bytes() == b"x" * 5000
    assert len((folder / ".qm" / "id").read_text().strip()) == 12
    assert notes == []
    assert os.listdir(queue) == [folder.name]


def test_a_zip_archive_becomes_a_job(queue: Path) -> None:
    folder, _ = send(queue, zipped(("sub/", b""), ("sub/a.txt", b"text")), "C:\\Users\\me\\mine.ZIP")
    assert folder.name == "mine"
    assert (folder / "sub" / "a.txt").read_bytes() == b"text"


def test_the_single_folder_at_the_top_is_the_job_under_its_own_name(queue: Path) -> None:
    folder, _ = send(
        queue, tar(member("fit 7/job.sh", b"true\n"), member("fit 7/a/b", b"1"), link("fit 7/c", "a/b"), job=False)
    )
    assert folder.name == "fit 7"
    assert (folder / "c").read_text() == "1"
    assert stat.S_IMODE(folder.stat().st_mode) & 0o700 == 0o700


def test_a_second_job_of_that_name_gets_a_number(queue: Path) -> None:
    assert send(queue, tar())[0].name == "mine"
    assert send(queue, tar())[0].name == "mine.2"


def test_names_that_mark_a_copy_are_tidied(queue: Path) -> None:
    assert send(queue, tar(), ".@x.part.tar")[0].name == "x"
    assert send(queue, tar(), "..")[0].name == "job"
    assert len(os.fsencode(send(queue, tar(), "ä" * 300)[0].name)) <= 200


@pytest.mark.parametrize(
    ("name", "plain"), [("a.tar.gz", "a"), ("x/y/b.TGZ", "b"), ("c.7", "c.7"), ("C:\\d.zip", "d"), (".zip", "")]
)
def test_the_suffix_of_an_archive_is_not_in_the_jobs_name(name: str, plain: str) -> None:
    assert without_suffix(name) == plain


def test_the_x_bit_stays_and_setuid_never_does(queue: Path) -> None:
    data = tar(
        member("run", b"#!/bin/sh\n", mode=0o6755),
        member("secret", b"", mode=0o600),
        member("d", type=tarfile.DIRTYPE, mode=0o1700),
    )
    folder, _ = send(queue, data)
    assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o755 & ~umask()
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "d").stat().st_mode) == 0o700
    info = zipfile.ZipInfo("run")
    info.external_attr = (stat.S_IFREG | 0o4755) << 16
    folder, _ = send(queue, zipped((info, b"#!/bin/sh\n")))
    assert stat.S_IMODE((folder / "run").stat().st_mode) == 0o755 & ~umask()


def umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def test_names_of_all_kinds_arrive_as_they_were(queue: Path) -> None:
    names = ["ä ö.txt", "日本/語", "line\nbreak", os.fsdecode(b"\xff\xfe"), "l" * 200 + "/" + "m" * 200, "100% <b>"]
    folder, _ = send(queue, tar(*(member(name, b"1") for name in names)))
    for name in names:
        assert (folder / name).read_bytes() == b"1"


def test_a_zip_without_the_utf8_flag_keeps_its_names(queue: Path) -> None:
    data = zipped(("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", b"1")).replace(b"gr\xc3\xbcn", b"gr\xc3\xbcn")
    bare = bytearray(data)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        where = data.rindex(mark)
        flags = struct.unpack_from("<H", bare, where + at)[0]
        struct.pack_into("<H", bare, where + at, flags & ~0x800)
    assert (send(queue, bytes(bare))[0] / "grün").read_bytes() == b"1"


def test_links_inside_are_kept_even_dangling_ones(queue: Path) -> None:
    data = tar(
        link("now", "later.txt"), link("deep/up", "../job.sh"), link("gone", "missing"), member("later.txt", b"1")
    )
    folder, _ = send(queue, data)
    assert (folder / "now").read_bytes() == b"1"
    assert (folder / "deep" / "up").read_bytes() == b"echo hello\n"
    assert os.readlink(folder / "gone") == "missing"
    info = zipfile.ZipInfo("now")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    folder, _ = send(queue, zipped((info, b"job.sh")))
    assert os.readlink(folder / "now") == "job.sh"


def test_a_hard_link_to_a_file_before_it_is_that_file(queue: Path) -> None:
    folder, _ = send(queue, tar(member("a", b"one"), link("b/c", "a", tarfile.LNKTYPE)))
    assert (folder / "b" / "c").read_bytes() == b"one"


def test_what_macos_and_qm_put_beside_the_files_is_left_out(queue: Path) -> None:
    data = tar(
        member("fit/job.sh", b"true\n"), member("__MACOSX/fit/._job.sh"), member("fit/.DS_Store"), member("._fit"),
        member("fit/.qm/env", b"SECRET=1\0"), member("fit/.qm.old/job.json", b"{}"), link("fit/.qm.x", "/etc"),
        member("fit/sub/.qm/keep", b"1"), job=False,
    )  # fmt: skip
    folder, notes = send(queue, data)
    assert folder.name == "fit"
    assert sorted(os.listdir(folder)) == [".qm", "job.sh", "sub"]
    assert os.listdir(folder / ".qm") == ["id"]
    assert "left out" in notes[0]


def test_a_sparse_file_stays_sparse(queue: Path, tmp_path: Path) -> None:
    source = tmp_path / "holes"
    with open(source, "wb") as file:
        file.write(b"begin")
        file.truncate(20 << 20)
        file.seek(10 << 20)
        file.write(b"middle")
    data = _with_gnu_tar(tmp_path, "--sparse")
    assert len(data) < 100_000
    folder, _ = send(queue, data)
    assert (folder / "holes").read_bytes() == source.read_bytes()
    assert (folder / "holes").stat().st_blocks * 512 < 2 << 20


def _with_gnu_tar(folder: Path, *options: str) -> bytes:
    (folder / "job.sh").write_text("true\n")
    return subprocess.run(
        ["tar", "-c", *options, "-C", str(folder), "job.sh", "holes"], check=True, capture_output=True
    ).stdout


def test_the_times_of_files_are_kept(queue: Path) -> None:
    folder, _ = send(queue, tar(member("a", mtime=1_000_000_000), member("b", mtime=-5), member("c", mtime=2**40)))
    assert (folder / "a").stat().st_mtime == 1_000_000_000
    assert (folder / "b").stat().st_mtime > 1_500_000_000


# --- names that lead elsewhere -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/etc/passwd", "absolute"), ("../up", "'..'"), ("a/../../up", "'..'"), ("C:/x", "drive letter"),
        ("a\\..\\b", "backslash"),
        ("..", "'..'"), ("n" * 300, "too long"), ("/".join("abc" for _ in range(200)), "inside each other"),
        ("/".join(["x" * 200] * 20), "too long"),
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_or_fits_nowhere_is_refused(queue: Path, name: str, said: str) -> None:
    for data in (tar(member(name, b"1")), zipped((name, b"1"))):
        message = refused(queue, data)
        assert said in message
        assert name[:20] in message or "\\" in name


def test_a_name_with_a_nul_is_refused(queue: Path) -> None:
    data = zipped(("a_b", b"1")).replace(b"a_b", b"a\0b")
    assert "NUL" in refused(queue, data)


@pytest.mark.parametrize("target", ["/etc/passwd", "../other", "..", "a/../../x", "/", "missing/../../x"])
def test_a_link_that_leads_out_is_refused(queue: Path, target: str) -> None:
    assert "leads out of the job's folder" in refused(queue, tar(link("l", target)))
    info = zipfile.ZipInfo("l")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "leads out of the job's folder" in refused(queue, zipped((info, target.encode())))


def test_links_that_lead_out_only_together_are_refused(queue: Path) -> None:
    data = tar(member("a/b/c/file"), link("deep", "a/b/c"), link("a/b/c/up", "../../.."), link("out", "deep/up/../x"))
    assert "leads out of the job's folder" in refused(queue, data)


@pytest.mark.parametrize("order", [1, -1])
def test_nothing_is_written_through_a_link(queue: Path, tmp_path: Path, order: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    pair = [link("door", str(outside)), member("door/evil", b"1")][::order]
    refused(queue, tar(*pair))
    assert os.listdir(outside) == []


def test_a_link_of_a_single_folder_may_not_lead_beside_it(queue: Path) -> None:
    data = tar(member("fit/job.sh", b"true\n"), link("fit/up", "../x"), job=False)
    assert "leads out" in refused(queue, data)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "missing", "sub", "job.sh/x"])
def test_a_hard_link_to_anything_but_a_file_before_it_is_refused(queue: Path, target: str) -> None:
    refused(queue, tar(member("sub/x"), link("l", target, tarfile.LNKTYPE)))


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"])
def test_pipes_and_devices_are_refused(queue: Path, kind: bytes) -> None:
    message = refused(queue, tar(member("odd", type=kind)))
    assert "'odd'" in message
    if kind != b"Z":
        assert "files, folders and links only" in message


def test_the_same_name_twice_is_refused(queue: Path) -> None:
    assert "twice" in refused(queue, tar(member("a", b"1"), member("./a", b"2")))
    assert "twice" in refused(queue, tar(member("a", b"1"), member("a/b", b"2")))
    assert "twice" in refused(queue, tar(member("a/b", b"1"), member("a", b"2")))
    assert "twice" in refused(queue, tar(member("a", b"1"), link("a", "job.sh")))
    send(queue, tar(member("d", type=tarfile.DIRTYPE), member("d/", type=tarfile.DIRTYPE)))


# --- too much ------------------------------------------------------------------------------------------------


def test_more_files_than_allowed_are_refused(queue: Path) -> None:
    many = [member(f"f{number}") for number in range(20)]
    assert "more than 10 files" in refused(queue, tar(*many), limits=Limits(1 << 20, 10))
    assert "more than 10 files" in refused(
        queue, zipped(*((f"f{n}", b"") for n in range(60))), limits=Limits(1 << 20, 10)
    )
    folders = [member("/".join(f"{n}" for n in range(start, start + 15))) for start in range(2)]
    assert "more than 10 files" in refused(queue, tar(*folders), limits=Limits(1 << 20, 10))


def test_more_bytes_than_allowed_are_refused_whatever_the_header_says(queue: Path) -> None:
    data = bytearray(zipped(("big", bytes(5 << 20))))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.rindex(mark) + at, 10)
    refused(queue, bytes(data), limits=Limits(1 << 20, 10))
    for archive in (zipped(("big", bytes(5 << 20))), tar(member("big", bytes(5 << 20)), mode="w:gz")):
        assert "Max_Unpacked" in refused(queue, archive, limits=Limits(1 << 20, 10))


def test_a_hole_counts_as_what_it_pretends_to_be(queue: Path, tmp_path: Path) -> None:
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(1 << 40)
    assert "Max_Unpacked" in refused(queue, _with_gnu_tar(tmp_path, "--sparse"))


def test_what_is_skipped_in_a_compressed_archive_counts_too(queue: Path) -> None:
    data = tar(member("__MACOSX/big", bytes(30 << 20)), mode="w:gz")
    assert "Max_Unpacked" in refused(queue, data, limits=Limits(1 << 20, 10))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK])
def test_a_header_of_a_gigabyte_is_not_read_into_memory(queue: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, 1 << 30
    squeezer = zlib.compressobj(9, wbits=31)
    data = squeezer.compress(info.tobuf(tarfile.GNU_FORMAT))
    piece = b"x" * (1 << 20)
    data += b"".join(squeezer.compress(piece) for _ in range(20)) + squeezer.flush()
    tracemalloc.start()
    try:
        message = refused(queue, data)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert "header" in message


def test_headers_without_end_are_refused(queue: Path) -> None:
    one = tarfile.TarInfo("x")
    one.type, one.size = tarfile.GNUTYPE_LONGNAME, 10
    data = (one.tobuf(tarfile.GNU_FORMAT) + b"n" * 10 + bytes(502)) * 5000
    refused(queue, gzip.compress(data))


def test_a_map_of_holes_without_end_is_refused(queue: Path) -> None:
    info = tarfile.TarInfo("GNUSparseFile.0/x")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "x",
        "GNU.sparse.realsize": "5",
    }
    body = b"99999999\n" + b"0\n" * (4 << 20)
    data = tar((info, b""), job=False)[: -tarfile.RECORDSIZE]
    info.size = len(body)
    data = info.tobuf(tarfile.PAX_FORMAT) + body
    assert "header" in refused(queue, gzip.compress(data))


def test_a_zip_directory_of_many_members_is_refused_before_it_is_read(queue: Path) -> None:
    data = zipped(*((f"file-{number:06}", b"") for number in range(3000)))
    tracemalloc.start()
    try:
        refused(queue, data, limits=Limits(1 << 20, 100))
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


def test_what_a_crash_left_in_the_middle_of_an_upload_is_removed_by_the_next(queue: Path) -> None:
    ages = {".qm-upload-old.part": 7200, ".qm-upload-new.part": 10, ".qm-upload-held.part": 7200, ".qm-copy.part": 7200}
    for name, age in ages.items():
        (queue / name / "sub").mkdir(parents=True)
        os.utime(queue / name, (time.time() - age,) * 2)
    (queue / ".qm-upload-link.part").symlink_to(queue / ".qm-copy.part")
    held = os.open(queue / ".qm-upload-held.part", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        send(queue, tar())
    finally:
        os.close(held)
    assert set(os.listdir(queue)) == {"mine", ".qm-upload-link.part", *ages} - {".qm-upload-old.part"}
    assert (queue / ".qm-copy.part" / "sub").is_dir()


def test_a_full_disk_is_said_and_leaves_nothing(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize = 10, 4096

    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", lambda _: Full)
        with pytest.raises(TryAgain, match="no room"):
            send(queue, tar())
    assert os.listdir(queue) == []
    real = os.mkdir

    def mkdir(path: str, *rest: int) -> None:
        if path.endswith("/deep"):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), path)
        real(path, *rest)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(TryAgain, match="no room"):
        send(queue, tar(member("deep/x")))
    assert os.listdir(queue) == []


# --- damaged, or no job --------------------------------------------------------------------------------------


def locked() -> bytes:
    data = bytearray(zipped(("a", b"1")))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        where = -1
        while (where := data.find(mark, where + 1)) >= 0:
            data[where + at] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"), (b"hello", ".tar.gz"), (b"7z\xbc\xaf\x27\x1c" + bytes(600), "7z"),
        (b"Rar!\x1a\x07" + bytes(600), "rar"), (gzip.compress(b"no tar"), "no tar archive"), (locked(), "password"),
        (tar(job=False), "empty"), (zipped(job=False), "empty"),
        (b"#!/bin/sh\n" + b"x" * 600, ".zip"),
    ],
    ids=["nothing", "text", "7z", "rar", "gz", "locked", "empty-tar", "empty-zip", "script"],
)  # fmt: skip
def test_what_is_no_archive_is_told_what_would_be(queue: Path, data: bytes, said: str) -> None:
    assert said in refused(queue, data)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_an_archive_that_is_cut_off_anywhere_is_refused(queue: Path, mode: str) -> None:
    noise = random.Random(1).randbytes(3000)
    given = [("a", noise), ("b", b"2"), ("c", noise)]
    data = zipped(*given) if mode == "zip" else tar(*(member(n, d) for n, d in given), mode=mode)
    end = len(data) - (tarfile.RECORDSIZE if mode == "w" else 0)
    for length in range(1, end, 499 if mode == "w" else 97):
        refused(queue, data[:length])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_damage_anywhere_never_ends_in_anything_but_a_refusal(queue: Path, mode: str) -> None:
    chance = random.Random(7)
    given = [("a" * 150, chance.randbytes(700)), ("b", b"2" * 700)]
    data = zipped(*given) if mode == "zip" else tar(*(member(n, d) for n, d in given), link("l", "b"), mode=mode)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(chance.choice((1, 1, 5))):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        with contextlib.suppress(QMError):
            send(queue, bytes(broken))
    assert not [name for name in os.listdir(queue) if name.startswith(".")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([("a/x", b"")], "nor in its folder 'a'"),
        ([("x", b"")], "no job file at its top"),
        ([("a/job.sh", b"x"), ("b/job.sh", b"x")], "2 job folders"),
        ([("a/job.sh", b"x"), ("readme", b"x")], "beside it lies 'readme'"),
        ([("proc_config.cfg", b"[QMOptions]\nnb_proc : twelve\nscript : x\n")], "nb_proc"),
        ([("job.sh", b"")], "job.sh is empty"),
        ([("job.sh/x", b"")], "job.sh cannot be read as a regular file"),
    ],
)
def test_what_is_wrong_with_the_job_is_said(queue: Path, given: list[tuple[str, bytes]], said: str) -> None:
    with pytest.raises(JobFileError) as caught:
        send(queue, zipped(*given, job=False))
    assert said in str(caught.value)
    assert ".qm-" not in str(caught.value)
    assert os.listdir(queue) == []


def test_memory_stays_flat_for_a_large_file(queue: Path) -> None:
    data = tar(member("big", bytes(40 << 20)), mode="w:gz")
    tracemalloc.start()
    try:
        send(queue, data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()

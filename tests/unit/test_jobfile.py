"""Job files in three formats: what they give, and how a wrong one is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.vocabulary.errors import JobFileError
from qm.vocabulary.jobfile import DEFAULT_JOB_FILES, MAX_JOB_FILE, read_job_file
from qm.vocabulary.options import Options

CONFIG, XML, SCRIPT = "proc_config.cfg", "info.xml", "job.sh"

WANTED = Options(
    script="python process.py param1 param2",
    nb_proc=12,
    e_mail="me@example.org",
    info="some description of the job",
)


def config(*lines: str) -> Options:
    return read_job_file(CONFIG, "\n".join(("[QMOptions]", *lines)).encode()).options


def xml(*lines: str) -> Options:
    return read_job_file(XML, "\n".join(("<PARAMETER>", *lines, "</PARAMETER>")).encode()).options


def script(*lines: str) -> Options:
    return read_job_file(SCRIPT, "\n".join(lines).encode()).options


def refusal(name: str, data: bytes) -> str:
    with pytest.raises(JobFileError) as caught:
        read_job_file(name, data)
    message = str(caught.value)
    assert name in message
    return message


# --- any of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEFAULT_JOB_FILES)
@pytest.mark.parametrize("data", [b"", b"\n \t\r\n"], ids=["nothing", "blanks"])
def test_an_empty_file_is_refused(name: str, data: bytes) -> None:
    assert "empty" in refusal(name, data)


@pytest.mark.parametrize("name", DEFAULT_JOB_FILES)
def test_a_file_of_more_than_1_mib_is_refused(name: str) -> None:
    assert "1 MiB" in refusal(name, b"#" * (MAX_JOB_FILE + 1))


@pytest.mark.parametrize("name", DEFAULT_JOB_FILES)
@pytest.mark.parametrize(
    "data",
    [b"\x7fELF\x02\x01\x01\0\0\0", b"PK\x03\x04\0\0\0", "[QMOptions]\nscript : x\n".encode("utf-16")],
    ids=["elf", "zip", "utf-16"],
)
def test_a_binary_file_is_no_job_file(name: str, data: bytes) -> None:
    if name == SCRIPT:  # only its option lines are ever looked at, and these have none
        assert read_job_file(name, data).options.interpreter == ("/bin/sh",)
    else:
        refusal(name, data)


@pytest.mark.parametrize(
    ("name", "format_of"),
    [("my.cfg", CONFIG), ("job", CONFIG), ("other.XML", XML), ("run.sh", SCRIPT), ("RUN.SH", SCRIPT)],
)
def test_the_name_says_the_format(name: str, format_of: str) -> None:
    texts = {
        CONFIG: b"[QMOptions]\nscript : x\n",
        XML: b'<PARAMETER><script value="x"/></PARAMETER>',
        SCRIPT: b"#QM nb_proc = 1\nx\n",
    }
    found = read_job_file(name, texts[format_of])
    assert found.name == name
    assert found.options.script == (name if format_of == SCRIPT else "x")


@pytest.mark.parametrize("name", DEFAULT_JOB_FILES)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    try:
        read_job_file(name, data)
    except JobFileError as err:
        assert name in str(err)


_PIECES = (
    "[QMOptions]", "script", "nb_proc", "env_", "e-mail", " : ", " = ", "\n", "    ", "#", "x", "12", "\0", "é", "\r",
    "<PARAMETER>", "</PARAMETER>", '<script value="x"/>', "<nb_proc>", "</nb_proc>", "<!DOCTYPE a>", "&a;", "&#10;",
    "<?xml version='1.0' encoding='utf-7'?>", "<?xml version='1.0' encoding='hex'?>", "#!", "/bin/sh", "#QM ",
    "#SBATCH ", "--mem=", "-c", "--time=1", "'", '"', "\\",
)  # fmt: skip


@pytest.mark.parametrize("name", DEFAULT_JOB_FILES)
@given(pieces=st.lists(st.sampled_from(_PIECES) | st.text(max_size=3), max_size=30))
def test_any_mixture_of_what_stands_in_job_files_is_read_or_refused(name: str, pieces: list[str]) -> None:
    try:
        read_job_file(name, "".join(pieces).encode(errors="surrogatepass"))
    except JobFileError as err:
        assert name in str(err)


# --- proc_config.cfg ---------------------------------------------------------------------------------------


def test_the_sample_of_qm_0_4_is_read() -> None:
    data = b"""
    [QMOptions]
    nb_proc : 12
    e_mail : me@example.org
    info : some description of the job
    script : python process.py param1 param2

    [Proc]
    Size : 24
    anything else
"""
    found = read_job_file(CONFIG, data)
    assert (found.name, found.options, found.notes[1:]) == (CONFIG, WANTED, ())


def test_a_percent_sign_in_a_script_is_an_ordinary_character() -> None:
    assert config("script : date +%s").script == "date +%s"


def test_quotes_in_a_script_stay() -> None:
    assert config("script : sh -c 'echo \"a  b\"'").script == "sh -c 'echo \"a  b\"'"


def test_line_ends_and_marks_of_windows_are_accepted() -> None:
    assert read_job_file(CONFIG, b"\xef\xbb\xbf[QMOptions]\r\nscript : x\r\n").options == Options(script="x")


def test_a_file_in_another_encoding_is_told_with_byte_and_line() -> None:
    message = refusal(CONFIG, "[QMOptions]\nscript : x\ninfo : été\n".encode("latin-1"))
    assert "0xe9" in message
    assert "line 3" in message
    assert "UTF-8" in message


def test_a_nul_byte_is_refused() -> None:
    assert "NUL" in refusal(CONFIG, b"[QMOptions]\nscript : a\0b\n")


@pytest.mark.parametrize("data", [b"script : x\n", b"[Proc]\nscript : x\n", b"[QMOption]\nscript : x\n"])
def test_a_file_without_its_section_is_refused(data: bytes) -> None:
    assert "[QMOptions]" in refusal(CONFIG, data)


def test_a_key_that_stands_twice_is_refused() -> None:
    assert "line 4" in refusal(CONFIG, b"[QMOptions]\nscript : x\nnb_proc : 1\nNB_PROC : 2\n")


def test_a_wrong_value_is_told_with_its_line() -> None:
    assert refusal(CONFIG, b"[QMOptions]\nscript : x\nnb_proc : twelve\n") == (
        "proc_config.cfg, line 3: nb_proc = 'twelve' is not understood; accepted: a whole number of 1 or more"
    )


def test_keys_that_are_only_kept_so_far_are_noted() -> None:
    notes = read_job_file(CONFIG, b"[QMOptions]\nscript : x\nthen : next\nschedule : @daily\n").notes
    assert notes == ("kept, but not obeyed by this version of QM: then, schedule",)


# --- info.xml ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["info.xml", "infos.xml"])
def test_the_xml_of_qm_0_4_is_read(name: str) -> None:
    data = b"""<PARAMETER>
    <nb_proc value="12"/>
    <e-mail value="me@example.org"/>
    <script value="python process.py param1 param2"/>
    <info value="some description of the job"/>
</PARAMETER>"""
    assert read_job_file(name, data).options == WANTED


@pytest.mark.parametrize("line", ["<nb_proc>12</nb_proc>", '<nb_proc value=" 12 "/>', "<nb_proc>\n 12 \n</nb_proc>"])
def test_the_text_of_an_element_and_blanks_around_a_value_are_accepted(line: str) -> None:
    assert xml(line, '<script value="x"/>').nb_proc == 12


def test_characters_written_for_xml_are_what_they_mean() -> None:
    assert xml('<script value="a &amp;&amp; b &lt; &quot;c&quot;&#10;d"/>').script == 'a && b < "c"\nd'


def test_a_declared_encoding_is_obeyed() -> None:
    text = "<?xml version='1.0' encoding='ISO-8859-1'?><PARAMETER><script value='é'/></PARAMETER>"
    assert read_job_file(XML, text.encode("latin-1")).options.script == "é"


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE PARAMETER>",
        '<!DOCTYPE PARAMETER [<!ENTITY a "b">]>',
        '<!DOCTYPE PARAMETER SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE PARAMETER [<!ENTITY a "x"><!ENTITY b "&a;&a;">]>',
    ],
)
def test_a_doctype_is_refused_before_it_is_obeyed(prolog: str) -> None:
    text = f'<?xml version="1.0"?>\n{prolog}\n<PARAMETER><script value="x"/></PARAMETER>'
    message = refusal(XML, text.encode())
    assert "DOCTYPE" in message
    assert "line 2" in message


def test_an_entity_is_refused() -> None:
    assert "line 2" in refusal(XML, b'<PARAMETER>\n<script value="&a;"/></PARAMETER>')


def test_malformed_xml_is_told_with_its_line() -> None:
    assert "info.xml, line 3" in refusal(XML, b'<PARAMETER>\n<script value="x"/>\n</PARAM>')


def test_xml_that_is_not_utf_8_is_told_so() -> None:
    message = refusal(XML, b'<PARAMETER>\n<script value="\xe9"/></PARAMETER>')
    assert "UTF-8" in message
    assert "line 2" in message


@pytest.mark.parametrize("encoding", ["hex", "utf-7", "undefined", "no-such", "utf-32"])
def test_an_encoding_that_cannot_be_read_is_told(encoding: str) -> None:
    refusal(XML, f"<?xml version='1.0' encoding='{encoding}'?><PARAMETER/>".encode())


def test_another_root_is_refused() -> None:
    assert "<PARAMETER>" in refusal(XML, b'<html><script value="x"/></html>')


def test_an_element_that_stands_twice_is_refused() -> None:
    assert "twice" in refusal(XML, b'<PARAMETER><script value="x"/><script value="y"/></PARAMETER>')


def test_elements_of_the_user_s_own_are_left_alone() -> None:
    lines = ['<script value="x"/>', '<run n="1"/>', '<run n="2"><nb_proc value="no"/></run>']
    assert xml(*lines) == Options(script="x")


# --- job.sh ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "interpreter"),
    [
        ("#!/bin/bash", ("/bin/bash",)),
        ("#! /bin/sh ", ("/bin/sh",)),
        ("#!/usr/bin/env python3", ("/usr/bin/env", "python3")),
        ("#!/usr/bin/env -S python3 -u", ("/usr/bin/env", "-S python3 -u")),
        ("#!/bin/sh -e -u", ("/bin/sh", "-e -u")),
        ("#!/bin/sh\r", ("/bin/sh",)),
        ("true", ("/bin/sh",)),
        ("# no interpreter", ("/bin/sh",)),
    ],
)
def test_the_interpreter_is_read_as_the_kernel_does(first: str, interpreter: tuple[str, ...]) -> None:
    assert script(first, "true") == Options(script=SCRIPT, interpreter=interpreter)


def test_options_stand_in_the_comments_at_the_top() -> None:
    found = script("#!/bin/sh", "", "# about", "#QM nb_proc = 2", "#QM info : a = b # c", "", "#QM env_A = 1", "true")
    expected = Options(script=SCRIPT, interpreter=("/bin/sh",), nb_proc=2, info="a = b # c", env=(("A", "1"),))
    assert found == expected


def test_options_below_the_first_command_are_not_read() -> None:
    assert script("set -e", "#QM nb_proc = twelve", "#SBATCH -c 4").nb_proc == 1


@pytest.mark.parametrize(
    "line", ["##QM nb_proc = 2", "# QM nb_proc = 2", "#QMnb_proc = 2", "##SBATCH -c 2", "#SBATCHX"]
)
def test_what_only_looks_like_an_option_is_a_comment(line: str) -> None:
    assert script(line, "true") == Options(script=SCRIPT, interpreter=("/bin/sh",))


def test_a_script_for_slurm_is_marked_as_one() -> None:
    found = script("#!/bin/bash", "#SBATCH --job-name=demo -c 4", "true")
    assert (found.slurm, found.job_name, found.nb_proc) == (True, "demo", 4)


@pytest.mark.parametrize("body", [b"\xff\xfe\0", b"echo \xe9", b"exit 0\n" + bytes(range(256))])
def test_the_body_of_a_script_may_be_any_bytes(body: bytes) -> None:
    assert read_job_file(SCRIPT, b"#!/bin/sh\n#QM nb_proc = 2\n# \xe9\ntrue\n" + body).options.nb_proc == 2


@pytest.mark.parametrize("line", [b"#QM info = \xe9", b"#SBATCH --comment=\xe9", b"#QM info = \0"])
def test_an_option_line_that_is_no_text_is_refused(line: bytes) -> None:
    assert "line 2" in refusal(SCRIPT, b"#!/bin/sh\n" + line + b"\n")


@pytest.mark.parametrize("line", ["#QM nb_proc", "#QM = 2", "#QM hold"])
def test_an_option_without_a_value_is_refused(line: str) -> None:
    assert "key = value" in refusal(SCRIPT, f"#!/bin/sh\n{line}\n".encode())


def test_an_option_that_stands_twice_is_refused() -> None:
    assert "twice" in refusal(SCRIPT, b"#QM nb_proc = 1\n#QM nb_proc = 2\n")


@pytest.mark.parametrize("line", ["#QM script = other", "#QM Script : other"])
def test_a_script_is_its_own_script(line: str) -> None:
    assert "is the script itself" in refusal(SCRIPT, f"{line}\ntrue\n".encode())


def test_an_empty_interpreter_is_refused() -> None:
    assert "interpreter" in refusal(SCRIPT, b"#!\ntrue\n")

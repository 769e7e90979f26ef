"""QMserv.cfg: what is read, and how a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qm.vocabulary.config import KEYS, Settings, WebSettings, default_config, read_settings
from qm.vocabulary.errors import EX_CONFIG, ConfigError

FILE = "/etc/qm/QMserv.cfg"

QM_0_4 = """\
[QMServer]
# The parameters for the QueueManager program
#
# the folder with the QM_* folders
QM_FOLDER = /DATA/QM

# %integer% %min:1%
MaxNbProcessors = 12

##job_file = infos.xml
job_file = proc_config.cfg
launch_type : non-blocking
MailActive = TRUE
Debug : False

[WEB_QMserver]
Host = localhost
# %integer% %min:1024% %max:16535%
The_Port = 8000
Refresh_Rate : 10
Display_details : False
Delete_Jobs : True
Licence_to_kill = True
Debug = True
"""


def server(line: str) -> str:
    return f"[QMServer]\n{line}\n"


def refusal(text: str) -> str:
    """What read_settings says about a wrong text."""
    with pytest.raises(ConfigError) as caught:
        read_settings(text, FILE)
    return str(caught.value)


def test_a_file_of_qm_0_4_works_as_it_is() -> None:
    assert read_settings(QM_0_4, FILE) == Settings(
        file=FILE,
        folder="/DATA/QM",
        max_processors=12,
        launch_type="non-blocking",
        job_files=("proc_config.cfg",),
        mail_active=True,
        web=WebSettings(
            host="localhost",
            port=8000,
            refresh_rate=10.0,
            display_details=False,
            delete_jobs=True,
            licence_to_kill=True,
            debug=True,
        ),
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "[QMServer]\n", "[WEB_QMserver]\n\n[QMServer]\n"])
def test_whatever_is_left_out_has_its_default(text: str) -> None:
    assert read_settings(text, FILE) == Settings(file=FILE, folder="/etc/qm")


def test_the_default_configuration_says_what_is_so_without_it() -> None:
    assert read_settings(default_config(), FILE) == read_settings("", FILE)


def test_the_default_configuration_explains_every_key() -> None:
    text = default_config()
    for key in KEYS:
        assert f"# {key.meaning}\n# Accepted: {key.accepted}\n{key.name} : {key.default}\n" in text


def test_the_repository_s_own_configuration_is_the_default_one() -> None:
    repository = Path(__file__).resolve().parents[2]
    assert (repository / "QMserv.cfg").read_text(encoding="utf-8") == default_config()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (".", "/etc/qm"),
        ("./", "/etc/qm"),
        ("spool", "/etc/qm/spool"),
        ("/srv/queue", "/srv/queue"),
        ("../other", "/etc/qm/../other"),
        ("a folder # with % and =", "/etc/qm/a folder # with % and ="),
    ],
)
def test_the_folder_is_relative_to_the_file(written: str, meant: str) -> None:
    assert read_settings(server(f"QM_FOLDER : {written}"), FILE).folder == meant


def test_a_folder_on_two_lines_is_refused() -> None:
    assert "QM_FOLDER = 'a\\nb' is not understood" in refusal(server("QM_FOLDER : a\n  b"))


@pytest.mark.parametrize("name", ["maxnbprocessors", "MAXNBPROCESSORS", "MaxNbProcessors"])
def test_keys_ignore_case(name: str) -> None:
    assert read_settings(server(f"{name} = 3"), FILE).max_processors == 3


@pytest.mark.parametrize("name", ["QMServer", "qmserver", "QMSERVER"])
def test_sections_ignore_case(name: str) -> None:
    assert read_settings(f"[{name}]\nDebug : on\n", FILE).debug


def test_auto_leaves_the_number_of_processors_to_the_machine() -> None:
    assert read_settings(server("MaxNbProcessors : Auto"), FILE).max_processors is None


def test_job_files_are_a_list_with_commas() -> None:
    assert read_settings(server("job_file : my.cfg, job.sh"), FILE).job_files == ("my.cfg", "job.sh")


def test_the_same_key_name_in_both_sections_is_two_keys() -> None:
    settings = read_settings("[QMServer]\nDebug : True\n[WEB_QMserver]\nDebug : False\n", FILE)
    assert (settings.debug, settings.web.debug) == (True, False)


def test_a_wrong_value_is_told_with_file_line_key_value_and_what_is_accepted() -> None:
    assert refusal("# comment\n\n[QMServer]\nMaxNbProcessors : many\n") == (
        "/etc/qm/QMserv.cfg, line 4: [QMServer] MaxNbProcessors = 'many' is not understood; "
        "accepted: a whole number of 1 or more, or auto"
    )


@pytest.mark.parametrize(
    "line",
    [
        "MaxNbProcessors : 0",
        "MaxNbProcessors : -2",
        "MaxNbProcessors : 1.5",
        "MaxNbProcessors : ٣",
        "MaxNbProcessors : 99999999999999999999",
        "MaxNbProcessors :",
        "launch_type : sideways",
        "QM_FOLDER :",
        "QM_FOLDER : ~/queue",
        "job_file : a.cfg,,b.cfg",
        "job_file : ../a.cfg",
        "MailActive : perhaps",
        "Failed_Jobs : elsewhere",
        "Settle_Time : -1",
        "Settle_Time : nan",
        "Kill_Grace : inf",
        "Poll_Interval : 0",
        "Arrival_Grace : soon",
    ],
)
def test_a_value_that_cannot_be_is_refused(line: str) -> None:
    key, _, value = line.partition(":")
    message = refusal(server(line))
    assert message.startswith(f"{FILE}, line 2: [QMServer] {key.strip()} = {value.strip()!r} is not understood")
    assert "accepted: " in message


@pytest.mark.parametrize("line", ["The_Port : 65536", "The_Port : http", "Refresh_Rate : 0", "Host : a b", "Host :"])
def test_a_wrong_value_for_the_dashboard_is_refused(line: str) -> None:
    assert "[WEB_QMserver]" in refusal(f"[WEB_QMserver]\n{line}\n")


def test_an_unknown_key_is_told_with_the_nearest_and_all_that_are_accepted() -> None:
    message = refusal(server("MaxNbProcesors : 2"))
    assert message.startswith(
        "/etc/qm/QMserv.cfg, line 2: [QMServer] MaxNbProcesors is not known; did you mean MaxNbProcessors? "
    )
    assert "accepted: QM_FOLDER, MaxNbProcessors," in message


def test_a_key_like_no_other_gets_no_guess() -> None:
    message = refusal(server("xyzzy : 2"))
    assert "did you mean" not in message
    assert "accepted: " in message


def test_a_key_in_the_wrong_section_is_sent_to_the_right_one() -> None:
    assert "The_Port is not known; it belongs into [WEB_QMserver]; " in refusal(server("The_Port : 80"))


def test_an_unknown_section_is_told_with_the_nearest() -> None:
    message = refusal("\n[QMSrver]\nQM_FOLDER : .\n")
    assert message.startswith("/etc/qm/QMserv.cfg, line 2: section [QMSrver] is not known; did you mean [QMServer]? ")


@pytest.mark.parametrize(
    "text",
    [
        "QM_FOLDER : .\n",
        "[QMServer]\nDebug : True\nDebug : False\n",
        "[QMServer]\nDebug : True\nDEBUG : True\n",
        "[QMServer]\n[QMServer]\n",
        "[QMServer\nDebug : True\n",
        "[QMServer]\nDebug\n",
        "[QMServer]\nQM_FOLDER : a\0b\n",
        "PK\x03\x04\0\0\0",
    ],
    ids=[
        "no-section",
        "key-twice",
        "key-twice-in-another-case",
        "section-twice",
        "open-bracket",
        "no-value",
        "nul",
        "zip",
    ],
)
def test_what_is_no_configuration_is_refused_with_file_and_line(text: str) -> None:
    assert refusal(text).startswith(f"{FILE}, line ")


def test_a_wrong_configuration_ends_a_program_with_78() -> None:
    assert ConfigError.exit_status == EX_CONFIG == 78


@given(st.text())
def test_any_text_is_either_read_or_refused(text: str) -> None:
    try:
        settings = read_settings(text, FILE)
    except ConfigError as err:
        assert str(err).startswith(FILE)
    else:
        assert settings.file == FILE

"""Grid Engine's commands: how they are called, and what their answers say."""

from __future__ import annotations

import sys

import pytest

from qm.launchers import gridengine
from qm.launchers.gridengine import Listed, Submission
from qm.vocabulary.errors import QMError, TryAgain

LISTING = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>7</JB_job_number>
      <JAT_prio>0.55500</JAT_prio>
      <JB_name>q2026-11-21T18-00-00-abc#000000000</JB_name>
      <JB_owner>me</JB_owner>
      <state>r</state>
      <JAT_start_time>2026-11-21T18:00:01</JAT_start_time>
      <queue_name>all.q@node</queue_name>
      <slots>1</slots>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>8</JB_job_number>
      <JB_name>a &amp; b</JB_name>
      <state>Eqw</state>
    </job_list>
  </job_info>
</job_info>
"""


def test_qsub_gets_exactly_two_words_that_are_no_options() -> None:
    job = Submission("q1#000000001", "all.q", "/py", "/w/script.py", "/w/000000001.pkl", "/w/1.o", "/w/1.e")
    assert gridengine.submit_command("qsub", job) == [
        *["qsub", "-q", "all.q", "-o", "/w/1.o", "-e", "/w/1.e", "-N", "q1#000000001", "-V", "-S", "/py"],
        *["/w/script.py", "/w/000000001.pkl"],
    ]
    assert "-q" not in gridengine.submit_command("qsub", job._replace(queue=None))


def test_qsub_says_the_number_of_the_job() -> None:
    assert gridengine.submitted_number('Your job 12 ("q1#000000001") has been submitted\n') == "12"
    assert gridengine.submitted_number("") is None


def test_running_and_pending_jobs_are_listed() -> None:
    assert gridengine.read_listing(LISTING) == [
        Listed("7", "q2026-11-21T18-00-00-abc#000000000", "r"),
        Listed("8", "a & b", "Eqw"),
    ]


def test_an_empty_queue_has_no_jobs() -> None:
    assert gridengine.read_listing("<?xml version='1.0'?><job_info><queue_info/><job_info/></job_info>") == []


def test_a_control_character_in_somebody_elses_job_name_hides_nothing() -> None:
    assert gridengine.read_listing(LISTING.replace("a &amp; b", "a\x01b"))[1].name == "a?b"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "error: commlib error: got select error",
        "<job_info><job_list>",
        "<html><body>502</body></html>",
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><job_info>&a;</job_info>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><job_info/>',
    ],
)
def test_what_is_no_listing_is_looked_at_again_later(answer: str) -> None:
    with pytest.raises(TryAgain, match="qstat"):
        gridengine.read_listing(answer)


def test_a_path_that_grid_engine_would_misread_is_refused() -> None:
    gridengine.check_path("/home/me/.qpool_2026-11-21T18-00-00-abc")
    for path in ("/a:b", "/a,b", "/$HOME/b", "/a b"):
        with pytest.raises(ValueError, match="give another one"):
            gridengine.check_path(path)


def test_a_command_that_fails_is_tried_again() -> None:
    with pytest.raises(TryAgain, match="ended with 3: out of order"):
        gridengine.run([sys.executable, "-c", "import sys; print('out of order', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(TryAgain, match=r"did not end within 0\.1 s"):
        gridengine.run(["sleep", "30"], patience=0.1)


def test_a_command_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(QMError, match="is Grid Engine installed") as caught:
        gridengine.run(["/nowhere/qsub"])
    assert not isinstance(caught.value, TryAgain)

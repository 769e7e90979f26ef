"""The page of a job in a real browser: above all the log that is followed while it grows."""

from __future__ import annotations

from collections.abc import Callable

from harness import TestSpool, until
from playwright.sync_api import Locator, Page, expect
from webserver import WebServer

from qm.spool import tasks
from qm.spool.tasks import TaskEntry
from qm.vocabulary.options import Options
from qm.vocabulary.record import Record, Tasks, dump
from qm.vocabulary.states import State

WebMaker = Callable[..., WebServer]
Opener = Callable[..., Page]

WAIT = "while [ ! -e {} ]; do sleep 0.05; done"


def address_of(web: WebServer, name: str) -> str:
    """The page of the one job of that name."""
    found = until(lambda: [job for job in web.get("/api/v1/jobs").json()["jobs"] if job["name"] == name], name)
    return f"{web.url}/job/{found[0]['key']}"


def line(page: Page, text: str) -> Locator:
    """The line of the log that says just this."""
    return page.locator("#log-box").get_by_text(text, exact=True)


def shown(page: Page) -> str:
    return page.locator("#log-box").inner_text()


def test_a_log_is_followed_to_its_end_across_the_move_to_done(
    spool: TestSpool, make_web: WebMaker, open_page: Opener
) -> None:
    spool.drop("follow", f"echo first; {WAIT.format('go')}; for i in $(seq 1000); do echo line $i; done; echo last one")
    folder = spool.wait_running("follow")
    page = open_page(address_of(make_web(spool), "follow"))
    expect(page.locator("#log-box")).to_contain_text("first")
    expect(page.locator("[data-live=job-head] .state")).to_have_text("running")
    (folder / "go").touch()
    expect(page.locator("#log-box")).to_contain_text("last one")
    expect(page.locator("#log-box")).to_contain_text("Job finished at:")
    expect(page.locator("[data-live=job-head] .state")).to_have_text("done")
    assert page.evaluate(
        "() => { const box = document.getElementById('log-box');"
        " return box.scrollHeight - box.scrollTop - box.clientHeight < 40 }"
    )


def test_redrawn_lines_show_their_last_state_and_colours_are_colours(
    spool: TestSpool, make_web: WebMaker, open_page: Opener
) -> None:
    spool.drop("bar", r"printf '10%%|#   \r55%%|##  \r99%%|####\n\033[31mred\033[0m <b>plain</b> \377\n'")
    spool.wait_for("bar")
    page = open_page(address_of(make_web(spool), "bar"))
    box = page.locator("#log-box")
    expect(box).to_contain_text("99%|####")
    expect(box).not_to_contain_text("10%|#")
    expect(box.locator("span.a-fg1")).to_have_text("red")
    expect(box).to_contain_text("<b>plain</b> \ufffd")


def test_a_long_log_shows_its_end_and_loads_backwards(spool: TestSpool, make_web: WebMaker, open_page: Opener) -> None:
    spool.drop("long", "seq 1 400000")  # 2.7 MB
    spool.wait_for("long")
    page = open_page(address_of(make_web(spool), "long"))
    expect(line(page, "400000")).to_be_visible()
    first = int(shown(page).split("\n", 2)[1])
    assert first > 300_000
    page.get_by_role("button", name="Load earlier lines").click()
    expect(line(page, str(first - 1000))).to_be_attached()
    expect(line(page, "1")).to_have_count(0)
    page.get_by_role("button", name="Beginning").click()
    expect(line(page, "1")).to_be_visible()
    page.get_by_role("button", name="End").click()
    expect(line(page, "400000")).to_be_visible()


def test_a_text_is_found_far_from_what_is_shown(spool: TestSpool, make_web: WebMaker, open_page: Opener) -> None:
    spool.drop("search", "seq 1 200000; echo Needle in here; seq 200001 600000")
    spool.wait_for("search")
    page = open_page(address_of(make_web(spool), "search"))
    expect(line(page, "600000")).to_be_visible()
    page.get_by_label("Search in the log").last.fill("needle")
    page.get_by_role("button", name="Previous").click()
    expect(line(page, "Needle in here")).to_be_visible()
    page.get_by_label("Search in the log").last.fill("not in there")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#log-found")).not_to_be_empty()


def test_following_can_be_paused_and_goes_on(spool: TestSpool, make_web: WebMaker, open_page: Opener) -> None:
    script = f"echo begin; {WAIT.format('one')}; echo second; {WAIT.format('two')}; echo third"
    spool.drop("pause", script)
    folder = spool.wait_running("pause")
    web = make_web(spool)
    page = open_page(address_of(web, "pause"))
    expect(page.locator("#log-box")).to_contain_text("begin")
    page.get_by_label("Follow").uncheck()
    (folder / "one").touch()
    until(lambda: "second" in (folder / "process.log").read_text(), "the script to go on")
    page.wait_for_timeout(1500)
    assert "second" not in shown(page)
    page.get_by_label("Follow").check()
    expect(page.locator("#log-box")).to_contain_text("second")
    (folder / "two").touch()
    expect(page.locator("#log-box")).to_contain_text("third")


def test_a_job_is_killed_and_run_again_from_its_page(spool: TestSpool, make_web: WebMaker, open_page: Opener) -> None:
    spool.drop("again", f"echo started; {WAIT.format('go')}")
    spool.wait_running("again")
    page = open_page(address_of(make_web(spool, Licence_to_kill=True), "again"))
    page.get_by_role("button", name="Kill").click()
    page.get_by_role("button", name="Kill 1 job").or_(page.get_by_role("button", name="Kill again")).click()
    expect(page.locator("[data-live=job-head] .state")).to_have_text("killed")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("[data-live=job-head] .state")).to_have_text("running")
    (spool.jobs / "again" / "go").touch()
    expect(page.locator("[data-live=job-head] .state")).to_have_text("done")
    expect(page.locator("[data-live=job-attempts] tbody tr")).to_have_count(2)


def test_files_are_shown_in_place_and_nothing_in_them_runs(
    spool: TestSpool, make_web: WebMaker, open_page: Opener
) -> None:
    folder = spool.make("files", "true")
    (folder / "sub").mkdir()
    (folder / "sub" / "page.html").write_text("<script>document.title = 'broken'</script>")
    folder.rename(spool.queue / "files")
    spool.wait_for("files")
    page = open_page(address_of(make_web(spool), "files"))
    page.get_by_role("link", name="sub/").click()
    page.get_by_role("link", name="page.html", exact=True).click()
    expect(page.get_by_text("<script>document.title = 'broken'</script>")).to_be_visible()
    assert page.title() != "broken"


def test_with_scripts_off_the_page_still_shows_the_log(spool: TestSpool, make_web: WebMaker, open_page: Opener) -> None:
    spool.drop("plain", "echo to be read")
    spool.wait_for("plain")
    page = open_page(address_of(make_web(spool), "plain"), java_script_enabled=False)
    expect(page.locator("#log-box")).to_contain_text("to be read")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


# --- arrays ------------------------------------------------------------------------------------------------

THEN = 1_700_000_000.0


def make_array(spool: TestSpool) -> str:
    """An array of 50 tasks that runs, as far as its files say; the path of its tasks.jsonl."""
    folder = spool.jobs / "sweep"
    (folder / ".qm").mkdir(parents=True)
    options = Options(script="true", array="0-49")
    record = Record(
        "a" * 12, "sweep", "me", State.RUNNING, THEN, started=THEN, options=options, tasks=Tasks(50, 6, 1, 1)
    )
    (folder / ".qm" / "job.json").write_bytes(dump(record))
    path = f"{folder}/.qm/tasks.jsonl"
    tasks.append(path, [TaskEntry(number, State.DONE, 1, THEN, THEN + 9 + number) for number in range(6)])
    tasks.append(path, [TaskEntry(6, State.FAILED, 1, THEN, THEN + 3, 3), TaskEntry(7, State.RUNNING, 1, THEN)])
    for number in range(8):
        (folder / f"process.{number}.log").write_text(f"this is task {number}\n")
    return path


def test_a_cell_of_the_grid_leads_to_the_log_of_its_task(
    make_spool: Callable[..., TestSpool], make_web: WebMaker, open_page: Opener
) -> None:
    spool = make_spool()
    make_array(spool)
    page = open_page(f"{make_web(spool).url}/job/{'a' * 12}")
    expect(page.locator("#task-grid > *")).to_have_count(50)
    page.get_by_title("task 6: failed, exit status 3").click()
    expect(page.locator("#log-box")).to_contain_text("this is task 6")
    page.get_by_label("Log of task", exact=True).fill("3")
    page.get_by_label("Log of one task").get_by_role("button", name="Show").click()
    expect(page.locator("#log-box")).to_contain_text("this is task 3")
    page.get_by_role("link", name="Log of task 7").click()
    expect(page.locator("#log-box")).to_contain_text("this is task 7")


def test_the_grid_is_kept_up_to_date_without_a_reload(
    make_spool: Callable[..., TestSpool], make_web: WebMaker, open_page: Opener
) -> None:
    spool = make_spool()
    path = make_array(spool)
    page = open_page(f"{make_web(spool).url}/job/{'a' * 12}")
    page.get_by_label("Log of task", exact=True).fill("12")
    expect(page.locator("#task-grid .done")).to_have_count(6)
    tasks.append(path, [TaskEntry(7, State.DONE, 1, THEN, THEN + 60)])
    expect(page.locator("#task-grid .done")).to_have_count(7)
    expect(page.locator("[data-live=job-tasks]")).to_contain_text("7 done")
    expect(page.get_by_label("Log of task", exact=True)).to_have_value("12")


def test_the_csv_of_an_array_is_downloaded(
    make_spool: Callable[..., TestSpool], make_web: WebMaker, open_page: Opener
) -> None:
    spool = make_spool()
    make_array(spool)
    page = open_page(f"{make_web(spool).url}/job/{'a' * 12}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download (CSV)").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 51
    assert lines[7].startswith("6,failed,")

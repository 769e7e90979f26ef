"""The overview in a real browser: it keeps itself up to date, and what is chosen on it is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import TestSpool, until
from made_up import make_ended
from playwright.sync_api import Page, expect
from webserver import WebServer

FULL = {"Licence_to_kill": True, "Delete_Jobs": True}


def row_of(page: Page, name: str) -> str:
    return f"tr:has(td.job a:text-is('{name}'))"


def choose(page: Page, name: str) -> None:
    page.locator(row_of(page, name)).get_by_role("checkbox").check()


def state_of(page: Page, section: str, name: str) -> str:
    return f"section[data-live={section}] {row_of(page, name)} .state"


def test_a_job_is_seen_to_come_run_and_finish_without_a_reload(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    page = open_page(make_web(spool).url)
    page.evaluate("window.sameDocument = true")
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    spool.drop("count", "echo 1 / 4; while [ ! -e go ]; do sleep 0.05; done; echo 4 / 4")
    expect(page.locator(state_of(page, "running", "count"))).to_have_text("running")
    expect(page.locator(row_of(page, "count"))).to_contain_text("25%")
    (spool.jobs / "count" / "go").touch()
    expect(page.locator(state_of(page, "ended", "count"))).to_have_text("done")
    expect(page.get_by_text("No job is running.")).to_be_visible()
    assert page.evaluate("window.sameDocument")


def test_a_refresh_keeps_what_is_typed_ticked_focused_and_scrolled(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    for number in range(30):
        spool.drop(f"held{number}", "true", hold="yes")
    page = open_page(make_web(spool).url, viewport={"width": 1000, "height": 400})
    expect(page.locator("section[data-live=waiting] tbody tr")).to_have_count(30)
    choose(page, "held7")
    page.get_by_label("Text").fill("half a wo")
    scrolled = page.evaluate("window.scrollTo({ top: 300, behavior: 'instant' }), window.scrollY")
    assert scrolled > 100
    spool.drop("another", "true", hold="yes")
    expect(page.locator("section[data-live=waiting] tbody tr")).to_have_count(31)
    expect(page.locator(row_of(page, "held7")).get_by_role("checkbox")).to_be_checked()
    expect(page.get_by_label("Text")).to_have_value("half a wo")
    expect(page.get_by_label("Text")).to_be_focused()
    assert page.evaluate("window.scrollY") == scrolled


def test_killing_asks_first_and_then_kills(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    spool.drop("endless", "sleep 1000")
    spool.wait_running("endless")
    page = open_page(make_web(spool, **FULL).url)
    choose(page, "endless")
    page.get_by_role("button", name="Kill").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("endless")
    dialog.get_by_role("button", name="Cancel").click()
    assert (spool.jobs / "endless").exists()
    page.get_by_role("button", name="Kill").click()
    dialog.get_by_role("button", name="Kill 1 job").click()
    expect(page.locator(state_of(page, "ended", "endless"))).to_have_text("killed")
    assert spool.record(spool.lost / "endless")["state"] == "killed"


def test_a_failed_job_is_retried(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    spool.drop("flaky", "test -e again || { touch again; exit 3; }")
    page = open_page(make_web(spool).url)
    expect(page.locator(state_of(page, "ended", "flaky"))).to_have_text("failed")
    choose(page, "flaky")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(state_of(page, "ended", "flaky"))).to_have_text("done")


def test_deleting_needs_a_yes_and_then_the_folder_is_gone(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    for name in ("keep", "waste"):
        spool.drop(name, "true")
        spool.wait_for(name)
    page = open_page(make_web(spool, **FULL).url)
    choose(page, "waste")
    page.get_by_role("button", name="Delete").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert (spool.done / "waste").exists()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete 1 job").click()
    expect(page.locator(row_of(page, "waste"))).to_have_count(0)
    until(lambda: not (spool.done / "waste").exists())
    assert (spool.done / "keep").exists()


def test_a_whole_list_is_chosen_by_its_head_and_held_at_once(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    spool.drop("wide", "sleep 1000", nb_proc=2)
    spool.wait_running("wide")
    for number in range(3):
        spool.drop(f"later{number}", "true")
    page = open_page(make_web(spool).url)
    expect(page.locator("section[data-live=waiting] tbody tr")).to_have_count(3)
    page.locator("section[data-live=waiting]").get_by_label("Choose all jobs of this list").check()
    page.get_by_role("button", name="Hold").click()
    expect(page.locator("section[data-live=waiting] .state-held")).to_have_count(3)


def test_a_page_goes_on_after_the_dashboard_was_started_again(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    spool.drop("held", "true", hold="yes")
    first = make_web(spool)
    page = open_page(first.url)
    choose(page, "held")
    first.stop()
    make_web(spool, The_Port=first.port)
    page.get_by_role("button", name="Release").click()
    expect(page.locator(state_of(page, "ended", "held"))).to_have_text("done")


def test_what_is_not_allowed_is_not_offered(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    spool.drop("endless", "sleep 1000")
    spool.wait_running("endless")
    page = open_page(make_web(spool).url)
    choose(page, "endless")
    expect(page.get_by_role("button", name="Hold")).to_be_visible()
    expect(page.get_by_role("button", name="Kill")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)


def test_the_page_says_when_the_daemon_is_gone_and_back(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    page = open_page(make_web(spool).url)
    expect(page.locator(".alive")).to_have_text("running")
    spool.stop()
    expect(page.locator(".dead")).to_have_text("not running")
    spool.start()
    expect(page.locator(".alive")).to_have_text("running")


@pytest.mark.parametrize("script", ["on", "off"])
def test_names_and_texts_with_markup_are_only_text(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page], script: str
) -> None:
    hostile = "<img src=x onerror=document.title='broken'>"
    spool.drop("a<b>b", "echo '45% <script>document.title=1</script>'; exit 3", info=hostile)
    spool.wait_for("a<b>b")
    page = open_page(make_web(spool).url, java_script_enabled=script == "on")
    expect(page.get_by_text(hostile)).to_be_visible()
    expect(page.get_by_role("link", name="a<b>b")).to_be_visible()
    assert page.title() != "broken"


def test_one_is_found_among_ten_thousand(
    make_spool: Callable[..., TestSpool], make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    spool = make_spool()
    make_ended(spool.root, 10_000)
    page = open_page(make_web(spool).url)
    expect(page.locator("#h-ended")).to_have_text("Finished 10000")
    expect(page.locator("section[data-live=ended] tbody tr")).to_have_count(50)
    wanted = page.locator("section[data-live=ended] td.job a").nth(17).text_content()
    assert wanted is not None
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("page 2 of 200")).to_be_visible()
    page.get_by_label("Text").fill(wanted)
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("section[data-live=ended] td.job a")).to_have_text([wanted])
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("section[data-live=ended] tbody tr")).to_have_count(50)

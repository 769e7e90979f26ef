"""Submitting in a real browser: archives and folders, chosen and dropped, and a typed command."""

from __future__ import annotations

import base64
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TestSpool, until
from playwright.sync_api import Page, expect
from webserver import WebServer

MakeWeb = Callable[..., WebServer]
OpenPage = Callable[..., Page]


def zipped(**files: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return file.getvalue()


def drop(page: Page, *files: tuple[str, bytes]) -> None:
    """Let files fall onto the page, as a person would with the mouse."""
    given = [[name, base64.b64encode(data).decode()] for name, data in files]
    page.evaluate(
        """(given) => {
          const data = new DataTransfer();
          for (const [name, text] of given) {
            data.items.add(new File([Uint8Array.from(atob(text), (char) => char.charCodeAt(0))], name));
          }
          const send = (kind) => document.querySelector("h1").dispatchEvent(
            new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
          send("dragenter"); send("dragover"); send("drop");
        }""",
        given,
    )


def test_an_archive_is_chosen_uploaded_and_runs(spool: TestSpool, make_web: MakeWeb, open_page: OpenPage) -> None:
    page = open_page(make_web(spool).url + "/submit")
    files = [{"name": "fit.zip", "mimeType": "application/zip", "buffer": zipped(**{"job.sh": "echo hello\n"})}]
    page.locator("#archive").set_input_files(files)  # type: ignore[arg-type]
    link = page.get_by_role("link", name="fit", exact=True)
    expect(link).to_be_visible()
    link.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("fit")
    assert "hello" in (spool.wait_for("fit") / "process.log").read_text()


def test_a_folder_is_packed_by_the_page_and_its_programs_can_run(
    spool: TestSpool, make_web: MakeWeb, open_page: OpenPage, tmp_path: Path
) -> None:
    folder = tmp_path / "my fit"
    (folder / "sub").mkdir(parents=True)
    (folder / "job.sh").write_text("./sub/run\n")
    (folder / "sub" / "run").write_text("#!/bin/sh\necho from the program\n")
    (folder / "sub" / "grün.txt").write_text("1")
    page = open_page(make_web(spool).url + "/submit")
    page.locator("#folder").set_input_files(folder)
    expect(page.get_by_role("link", name="my fit", exact=True)).to_be_visible()
    ended = spool.wait_for("my fit")
    assert "from the program" in (ended / "process.log").read_text()
    assert (ended / "sub" / "grün.txt").read_text() == "1"


def test_dropped_files_go_one_after_the_other_and_errors_are_told_in_full(
    spool: TestSpool, make_web: MakeWeb, open_page: OpenPage
) -> None:
    page = open_page(make_web(spool).url + "/submit")
    good, bad = zipped(**{"job.sh": "true\n"}), zipped(readme="no job")
    drop(page, ("a.zip", good), ("<b>bad.zip", bad), ("alone.sh", b"echo alone\n"))
    items = page.locator("#uploads > li")
    expect(items).to_have_count(3)
    expect(items.nth(0).get_by_role("link", name="a", exact=True)).to_be_visible()
    expect(items.nth(1)).to_contain_text("<b>bad.zip")
    expect(items.nth(1).locator(".notice.bad")).to_contain_text("no job file at its top (looked for")
    expect(items.nth(2).get_by_role("link", name="alone")).to_be_visible()
    assert "alone" in (spool.wait_for("alone") / "process.log").read_text()


def test_an_upload_can_be_cancelled_and_leaves_nothing(
    make_spool: Callable[..., TestSpool], make_web: MakeWeb, open_page: OpenPage
) -> None:
    spool = make_spool()
    page = open_page(make_web(spool).url + "/submit")
    client = page.context.new_cdp_session(page)
    client.send("Network.enable")
    client.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000},
    )
    drop(page, ("slow.zip", zipped(**{"job.sh": "true\n", "noise": os.urandom(3 << 20).hex()})))
    item = page.locator("#uploads > li")
    expect(item).to_contain_text(" of ")
    item.get_by_role("button", name="Cancel").click()
    expect(item).to_contain_text("Cancelled")
    assert os.listdir(spool.queue) == []


def test_more_than_may_be_uploaded_is_told_before_it_is_sent(
    make_spool: Callable[..., TestSpool], make_web: MakeWeb, open_page: OpenPage
) -> None:
    page = open_page(make_web(make_spool(), Max_Upload="1M").url + "/submit")
    drop(page, ("big.zip", bytes(2 << 20)))
    expect(page.locator("#uploads .notice.bad")).to_contain_text("Max_Upload")


def test_a_command_is_typed_and_runs(spool: TestSpool, make_web: MakeWeb, open_page: OpenPage) -> None:
    page = open_page(make_web(spool).url + "/submit")
    page.get_by_label("Command, or").fill("echo typed\necho twice")
    page.get_by_label("Name").fill("by hand")
    page.get_by_role("button", name="Submit the command").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("by hand")
    assert "typed\ntwice" in (spool.wait_for("by hand") / "process.log").read_text()


def test_the_page_is_of_use_without_scripts(spool: TestSpool, make_web: MakeWeb, open_page: OpenPage) -> None:
    page = open_page(make_web(spool).url + "/submit", java_script_enabled=False)
    files = [{"name": "fit.zip", "mimeType": "application/zip", "buffer": zipped(**{"job.sh": "echo hello\n"})}]
    page.locator("#archive").set_input_files(files)  # type: ignore[arg-type]
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("fit")
    spool.wait_for("fit")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(
    spool: TestSpool, make_web: MakeWeb, open_page: OpenPage, scheme: str
) -> None:
    page = open_page(make_web(spool).url + "/submit", viewport={"width": 390, "height": 800}, color_scheme=scheme)
    until(lambda: page.evaluate("document.body.classList.contains('scripted')"), "the script")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

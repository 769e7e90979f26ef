"""Logging in and out in a real browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from harness import TestSpool
from playwright.sync_api import Page, expect
from webserver import WebServer, configure_web


def add_user(spool: TestSpool, name: str, password: str, role: str) -> None:
    configure_web(spool, Users_File="users")
    command = [sys.executable, "-m", "qm.cli.main", "-c", str(spool.config), "web", "adduser", name, "--role", role]
    subprocess.run(command, input=f"{password}\n", text=True, check=True, capture_output=True, timeout=60)


def log_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def test_who_is_not_logged_in_sees_nothing_and_who_is_sees_the_queue(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    add_user(spool, "ada", "a long password", "operate")
    spool.drop("secret", "true")
    spool.wait_for("secret")
    web = make_web(spool, Users_File="users")
    page = open_page(web.url)
    expect(page.get_by_label("Password")).to_be_visible()
    expect(page.get_by_text("secret")).to_have_count(0)
    log_in(page, "ada", "a wrong password")
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    log_in(page, "ada", "a long password")
    expect(page.get_by_role("link", name="secret")).to_be_visible()
    expect(page.get_by_text("ada", exact=True)).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    page.goto(web.url)
    expect(page.get_by_label("Password")).to_be_visible()


def test_a_viewer_is_offered_nothing_that_changes_something(
    spool: TestSpool, make_web: Callable[..., WebServer], open_page: Callable[..., Page]
) -> None:
    add_user(spool, "eve", "a long password", "view")
    spool.drop("done", "true")
    spool.wait_for("done")
    page = open_page(make_web(spool, Users_File="users", Licence_to_kill=True, Delete_Jobs=True).url)
    log_in(page, "eve", "a long password")
    expect(page.get_by_role("link", name="done")).to_be_visible()
    expect(page.get_by_role("checkbox")).to_have_count(0)
    expect(page.get_by_role("button", name="Drain")).to_have_count(0)
    page.get_by_role("link", name="done").click()
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)

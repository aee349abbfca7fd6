"""The page, in a real browser: sign in, see a job run, cancel another."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import DIGITS, LONG, Process, cyxwiz, submit
from tests.missing import missing

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 60_000  # in milliseconds, as the browser counts

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def page() -> Iterator[Any]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        missing("a browser (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield browser.new_page()
        finally:
            browser.close()


def sign_in(page: Any, both: Process) -> list[str]:
    """Opens the page with admin's key; returns the list that gets every error the page logs."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(both.ready["rest"])
    page.fill("#key", both.key)
    page.click("#key-form button")
    page.wait_for_selector("#board:not([hidden])", timeout=SECONDS)
    return errors


def test_a_job_runs_before_ones_eyes(page: Any, tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "both") as both, both.http() as http:
        errors = sign_in(page, both)
        evil = "<img src=x onerror=alert(1)>"
        submit(http, {**DIGITS, "name": evil})
        row = page.locator("#job-rows tr", has_text=evil).first
        row.wait_for(timeout=SECONDS)
        row.get_by_text("completed").wait_for(timeout=SECONDS)
        long = submit(http, {**LONG, "name": "to be cancelled"})
        row = page.locator("#job-rows tr", has_text="to be cancelled").first
        row.get_by_text("running").wait_for(timeout=SECONDS)
        page.on("dialog", lambda dialog: dialog.accept())
        row.get_by_role("button", name="Cancel to be cancelled").click()
        row.get_by_text("cancelled", exact=True).first.wait_for(timeout=SECONDS)
        assert http.get(f"/api/jobs/{long}").json()["status"] == "cancelled"
        assert errors == []


def test_a_wrong_key_is_said(page: Any, tmp_path: Path) -> None:
    with cyxwiz("central", tmp_path / "central") as central:
        page.goto(central.ready["rest"])
        page.fill("#key", "cyx_wrong")
        page.click("#key-form button")
        page.wait_for_selector("#key-error:not([hidden])", timeout=SECONDS)
        assert page.locator("#board").is_hidden()

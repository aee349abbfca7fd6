"""The page, in a real browser: sign in, see a job run, cancel another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.browser import SECONDS, browser, sign_in
from tests.e2e.processes import DIGITS, LONG, cyxwiz, submit

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def page() -> Iterator[Any]:
    with browser() as started:
        yield started.new_page()


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
        sign_in(page, central)
        page.click("#submit summary")
        assert page.locator("#ask").is_visible()
        assert page.locator("#pay").is_hidden(), "books without keys take no signatures"
        page.fill("#job-text", '{"seed": 9007199254740993}')
        page.click("#ask")
        page.get_by_text("larger than this page can hold").wait_for(timeout=SECONDS)
        page.fill("#job-text", json.dumps(DIGITS))
        page.click("#ask")
        page.locator("#job-rows tr", has_text="digits").get_by_text("pending").wait_for(timeout=SECONDS)

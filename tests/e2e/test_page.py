"""The page, in a real browser: sign in, see a job run, cancel another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Database
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.store.engine import open_store
from tests.contract import make
from tests.e2e.browser import SECONDS, browser, lose_answers, sign_in
from tests.e2e.processes import DIGITS, LONG, cyxwiz, submit, until

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


def test_what_came_out_of_a_job_is_saved(page: Any, tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "both") as both, both.http() as http:
        ident = submit(http, DIGITS)
        assert until(http, ident, "completed")["actual_cost_units"] > 0
        errors = sign_in(page, both)
        page.get_by_text("Balance (CYXWIZ)").wait_for(timeout=SECONDS)
        page.locator("#job-rows .name").click()
        page.locator("span.loss").wait_for(timeout=SECONDS)
        weights = http.get(f"/api/jobs/{ident}/result").json()["files"][0]
        for name, path in ((weights["name"], f"/api/blobs/{weights['sha256']}"), ("receipt.json", None)):
            with page.expect_download(timeout=SECONDS) as saved:
                page.get_by_role("button", name=name).click()
            wanted = http.get(path or f"/api/jobs/{ident}/receipt").content
            assert Path(saved.value.path()).read_bytes() == wanted
        assert saved.value.suggested_filename == f"receipt-{ident}.json"
        assert errors == []


def test_a_job_is_set_aside_and_goes_on(page: Any, tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "both") as both, both.http() as http:
        errors = sign_in(page, both)
        long = submit(http, {**LONG, "name": "set aside"})
        until(http, long, "running", epoch=1)
        page.get_by_role("button", name="Pause set aside").click()
        page.get_by_role("button", name="Resume set aside").wait_for(timeout=SECONDS)
        assert page.evaluate("document.activeElement.textContent") == "Resume", "the focus stays where it was pressed"
        until(http, long, "paused")
        page.get_by_text("+ 1 paused").wait_for(timeout=SECONDS)
        page.select_option("#status", "failed")
        page.get_by_text("No job matches").wait_for(timeout=SECONDS)
        page.select_option("#status", "paused")
        page.locator("#job-rows tr", has_text="set aside").get_by_text("paused by its owner").wait_for(timeout=SECONDS)
        page.get_by_role("button", name="Resume set aside").click()
        until(http, long, "running")
        assert errors == []


def test_a_phone_shows_all_of_a_job(page: Any, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 375, "height": 800})
    with cyxwiz("central", tmp_path / "central") as central, central.http() as http:
        sign_in(page, central)
        submit(http, {**DIGITS, "name": "waits"})
        button = page.get_by_role("button", name="Cancel waits")
        button.wait_for(timeout=SECONDS)
        box = button.bounding_box()
        assert box["x"] + box["width"] <= 375
        assert page.evaluate("document.querySelector('#jobs').closest('.scroll').scrollWidth") <= 375


def test_an_evaluation_shows_what_it_found_and_no_training(page: Any, tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "both") as both, both.http() as http:
        trained = submit(http, {**DIGITS, "epochs": 1})
        until(http, trained, "completed")
        asked = {"name": "how good", "type": "evaluation", "dataset": "builtin:digits", "model": {"from_job": trained}}
        until(http, submit(http, asked), "completed")
        errors = sign_in(page, both)
        row = page.locator("#job-rows tr", has_text="how good").first
        assert row.locator("[data-label='Train loss']").inner_text() == "\N{EN DASH}"
        row.locator(".name").click()
        page.locator("#detail", has_text="f1_macro").wait_for(timeout=SECONDS)
        shown = page.inner_text("#detail")
        assert "First file" in shown
        assert "Model" not in shown
        assert "it begins with" not in shown
        both.kill()
        page.locator("#live", has_text="disconnected, trying again").wait_for(timeout=SECONDS)
        page.get_by_role("button", name="receipt.json").click()
        page.locator("#toast", has_text="Central does not answer").wait_for(timeout=SECONDS)
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


def test_a_first_load_that_fails_is_tried_again(page: Any, tmp_path: Path) -> None:
    refused = {"code": "UNAVAILABLE", "message": "Stopping", "details": {}, "retryable": True, "request_id": "x"}
    with cyxwiz("central", tmp_path / "central") as central:
        for path, go in (("stats", lambda: sign_in(page, central)), ("platform", page.reload)):
            page.route(f"**/api/{path}", lambda route: route.fulfill(status=503, json={"error": refused}), times=1)
            go()
            page.locator("#toast", has_text="Stopping").wait_for(state="attached", timeout=SECONDS)
            page.wait_for_selector("#board:not([hidden])", timeout=SECONDS)
            page.locator("#live", has_text="live").wait_for(timeout=SECONDS)
            assert page.locator("#leave").is_visible()
            assert page.locator("#sign-in").is_hidden()


def test_who_left_while_central_was_away_is_left_alone(page: Any, tmp_path: Path) -> None:
    page.clock.install()
    with cyxwiz("central", tmp_path / "central") as central:
        sign_in(page, central)
        page.locator("#live", has_text="live").wait_for(timeout=SECONDS)
        central.kill()
        page.locator("#live", has_text="disconnected, trying again").wait_for(timeout=SECONDS)
        page.click("#leave")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.clock.run_for(60_000)
        assert asked == []
        assert page.inner_text("#live") == "not connected"
        assert page.locator("#key-error").is_hidden()


def test_a_node_that_is_cut_off_is_not_seen_now(page: Any, tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "both") as both, both.http() as http:
        page.clock.install()
        sign_in(page, both)
        row = page.locator("#node-rows tr")
        row.get_by_text("now").wait_for(timeout=SECONDS)
        node = http.get("/api/nodes").json()["nodes"][0]["id"]
        assert http.post(f"/api/nodes/{node}/ban", json={}).status_code == 200
        row.get_by_text("banned").wait_for(timeout=SECONDS)
        assert row.get_by_text("now").count() == 0
        page.clock.run_for(120_000)
        row.get_by_text("2 min ago").wait_for(timeout=SECONDS)


def test_what_one_reads_stays_as_the_list_is_renewed(page: Any, tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path / "both") as both, both.http() as http:
        until(http, submit(http, {**DIGITS, "name": "read", "epochs": 40}), "completed")
        waiting = {**DIGITS, "resources": {"regions": ["nowhere"]}}
        submit(http, {**waiting, "name": "waits"})
        errors = sign_in(page, both)
        page.locator("#job-rows .name", has_text="read").click()
        page.locator(".logs span").first.wait_for(timeout=SECONDS)
        page.set_viewport_size({"width": 375, "height": 800})
        page.evaluate("document.documentElement.style.fontSize = '40px'")  # makes a short log one that scrolls
        page.evaluate("document.querySelector('.logs').scrollTop = 40")
        page.get_by_role("button", name="Cancel waits").focus()
        page.evaluate("window.held = document.activeElement")
        submit(http, {**waiting, "name": "newer"})
        page.locator("#job-rows tr", has_text="newer").wait_for(timeout=SECONDS)
        assert page.evaluate("document.activeElement === window.held")
        assert page.evaluate("document.querySelector('.logs').scrollTop") == 40
        assert errors == []


def test_new_jobs_come_in_front_and_take_nothing_away(page: Any, tmp_path: Path) -> None:
    with cyxwiz("central", tmp_path / "central") as central, central.http() as http:
        for _ in range(60):
            submit(http, DIGITS)
        errors = sign_in(page, central)
        page.locator("#job-rows .name").nth(49).click()
        page.get_by_role("heading", name="Details").wait_for(timeout=SECONDS)
        opened = page.locator(".detail .mono").first.inner_text()
        submit(http, DIGITS)
        page.get_by_text("51 of 61").wait_for(timeout=SECONDS)
        page.click("#more")
        page.get_by_text("61 of 61").wait_for(timeout=SECONDS)
        assert page.locator("#more").is_hidden()
        submit(http, DIGITS)
        page.get_by_text("62 of 62").wait_for(timeout=SECONDS)
        assert page.locator(".detail .mono").first.inner_text() == opened
        assert errors == []


def test_all_nodes_can_be_seen(page: Any, tmp_path: Path) -> None:
    async def seed() -> None:
        clock = SystemClock()
        store = await open_store(Database(), tmp_path / "central", clock=clock, bus=LocalBus())
        await store.write(lambda tx: [tx.add_node(make.node(f"rig-{number}")) for number in range(101)])
        await store.aclose()

    (tmp_path / "central").mkdir(mode=0o700)
    with ThreadPoolExecutor(1) as thread:  # the browser's loop has this one
        thread.submit(asyncio.run, seed()).result()
    with cyxwiz("central", tmp_path / "central") as central:
        errors = sign_in(page, central)
        page.get_by_text("100 of 101").wait_for(timeout=SECONDS)
        page.click("#more-nodes")
        page.get_by_text("101 of 101").wait_for(timeout=SECONDS)
        assert page.locator("#more-nodes").is_hidden()
        assert page.locator("#node-rows tr").count() == 101
        assert errors == []


def test_a_job_whose_answer_was_lost_is_not_made_twice(page: Any, tmp_path: Path) -> None:
    with cyxwiz("central", tmp_path / "central") as central, central.http() as http:
        errors = sign_in(page, central)
        page.click("#submit summary")
        page.click("#example")
        lose_answers(page, "**/api/jobs")
        page.click("#ask")
        page.get_by_text("whether the job has arrived is not known").wait_for(timeout=SECONDS)
        page.unroute("**/api/jobs")
        page.click("#ask")
        page.wait_for_selector("#submit-done:not([hidden])", timeout=SECONDS)
        jobs = http.get("/api/jobs").json()["jobs"]
        assert [job["id"] in page.inner_text("#submit-done") for job in jobs] == [True]
        page.click("#ask")
        page.get_by_text("2 of 2").wait_for(timeout=SECONDS)
        assert errors == []

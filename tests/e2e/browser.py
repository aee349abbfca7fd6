"""A real browser for the tests of the page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

from tests.e2e.processes import Process
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


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        missing("a browser (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            yield started
        finally:
            started.close()


def sign_in(page: Any, both: Process) -> list[str]:
    """Opens the page with admin's key; returns the list that gets every error the page logs."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(both.ready["rest"])
    page.fill("#key", both.key)
    page.click("#key-form button")
    page.wait_for_selector("#board:not([hidden])", timeout=SECONDS)
    return errors


def lose_answers(page: Any, path: str) -> None:
    """What is sent to `path` from now on arrives; no answer to it comes back."""

    def lose(route: Any) -> None:
        if route.request.method == "POST":
            route.fetch()
            route.abort()
        else:
            route.continue_()

    page.route(path, lose)

"""Logs: one JSON object a line, or readable text on a terminal. Secrets never get here: callers pass ids."""

from __future__ import annotations

import logging
import sys


def configure(level: str, style: str) -> None:
    """Sets the process's logging up. `style` is auto, json or text; auto is text on a terminal."""
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    if as_json:
        from pythonjsonlogger.json import JsonFormatter

        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}",
                style="{",
                rename_fields={"asctime": "at", "levelname": "level", "name": "logger"},
            )
        )
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The clients for HTTP name each address in full, with the access key that a cluster's may have.
    for noisy in ("alembic", "asyncio", "httpx", "httpx2", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))

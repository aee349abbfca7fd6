"""Log lines of a job, as many at a time as are worth one answer: lines may be long."""

from __future__ import annotations

from collections.abc import Sequence

from cyxwiz.domain.ids import JobId
from cyxwiz.domain.job import LogLine
from cyxwiz.ports.store import Tx

AT_ONCE = 100
MAX_ANSWER = 16 << 20  # characters: a thousand of the longest lines, which is what is asked for by default


def read_lines(tx: Tx, job_id: JobId, after: int, limit: int, most: int = MAX_ANSWER) -> tuple[Sequence[LogLine], bool]:
    """(lines after an offset, whether there may be more): `limit` at most, and no more once they have `most` characters
    in all. With none left for it, there may be more."""
    found: list[LogLine] = []
    characters = 0
    while len(found) < limit and characters < most:
        asked = min(AT_ONCE, limit - len(found))
        lines = tx.logs(job_id, found[-1].offset if found else after, asked)
        for line in lines:
            found.append(line)
            characters += len(line.message)
            if characters >= most:
                break
        if len(lines) < asked and characters < most:
            return found, False
    return found, True

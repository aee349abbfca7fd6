"""Documents as a person reads them. Text that came from others is printed as it is, never read as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
OF_A_CLASS = re.compile(r"(precision|recall|f1)_class_\d+")
COLOURS = {
    "completed": "green",
    "online": "green",
    "running": "cyan",
    "assigned": "cyan",
    "failed": "red",
    "banned": "red",
    "cancelled": "yellow",
    "offline": "yellow",
    "closed": "yellow",
}


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
WIDE = 100_000
CUT = 12  # columns that a cut cell keeps
FOLDED = 9  # columns that a folded cell needs at least, to be read
GAP = 3  # columns between two cells
EDGES = 2


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, markup=False, width=WIDE)  # for grep: a row stays a line


def _print(part: Any) -> None:
    _console().print(part, soft_wrap=True)


def plain(value: Any) -> str:
    """One cell: control characters of what others wrote don't reach the terminal."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        short = f"{value:.4g}"
        return f"{value:.0f}" if "e+" in short and abs(value) < 1e6 else short
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(each) for each in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(key)}={plain(each)}" for key, each in value.items()) or "-"
    return "".join(ch if ch.isprintable() else "�" for ch in str(value))


def table(
    headings: Iterable[str], rows: Iterable[Iterable[Any]], *, least: Sequence[str] = (), short: Sequence[str] = ()
) -> None:
    """Rows under headings; where the terminal is too narrow for that, each row as lines of its own.

    Args:
        least: the columns that a narrow terminal does without, one after the other until the rest fits.
        short: the columns that it may cut. Ids are never cut or broken, so that they can be copied.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = [[plain(value) for value in row] for row in (headings, *rows)]
    room = _console().width
    columns = _fitting([*zip(*lines, strict=True)], room, least, short)
    if _least_width(columns, short) > room:
        for row in lines[1:]:
            pairs((heading or "-", cell) for heading, cell in zip(lines[0], row, strict=True))
            print()
        return
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for (heading, *cells), width in columns:
        whole = _has_ids(cells)
        cut = heading in short
        grid.add_column(
            Text(heading),
            overflow="ellipsis" if cut else "fold",
            no_wrap=whole or cut,
            width=width if cut else None,
        )
    for row in zip(*(cells for (_, *cells), _ in columns), strict=True):
        grid.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    _print(grid)


def _has_ids(cells: Iterable[str]) -> bool:
    return any(UUID.fullmatch(cell) for cell in cells)


def _least_width(columns: Sequence[tuple[tuple[str, ...], int]], short: Sequence[str]) -> int:
    """What a table of these columns takes once the cells that may be folded are."""
    widths = (width if _has_ids(cells) or cells[0] in short else min(width, FOLDED) for cells, width in columns)
    return sum(widths) + GAP * (len(columns) - 1) + EDGES


def _fitting(
    columns: list[tuple[str, ...]], room: int, least: Sequence[str], short: Sequence[str]
) -> list[tuple[tuple[str, ...], int]]:
    """The columns that are shown in `room`, each with its width; the heading is a column's first cell."""
    from rich.cells import cell_len

    left = [(cells, max(map(cell_len, cells))) for cells in columns]

    def over(widths: Iterable[int]) -> int:
        return sum(widths) + GAP * (len(left) - 1) + EDGES - room

    for name in least:
        if over(min(width, CUT) if cells[0] in short else width for cells, width in left) <= 0:
            break
        left = [column for column in left if column[0][0] != name]
    while over(width for _, width in left) > 0:
        at = max((i for i, (cells, _) in enumerate(left) if cells[0] in short), key=lambda i: left[i][1], default=None)
        if at is None or left[at][1] <= CUT:
            break  # the other columns are folded
        left[at] = (left[at][0], left[at][1] - 1)
    return left


def pairs(rows: Iterable[tuple[str, Any]]) -> None:
    from rich.text import Text

    cells = [(name, plain(value)) for name, value in rows]
    width = max((len(name) for name, _ in cells), default=0)
    for name, cell in cells:
        # Lines, not a grid: a hash is not broken in two, so that it can be copied.
        _print(Text.assemble((f"{name:<{width}}  ", "dim"), (cell, COLOURS.get(cell, ""))))


def fields(document: Json) -> Iterable[tuple[str, Any]]:
    """What an object tells, times as everywhere, each amount once and with its currency: `X_units` beside `X` is for
    programs."""
    for name, value in document.items():
        if value is None or (name.endswith("_units") and name.removesuffix("_units") in document):
            continue
        if name.endswith(("_at", "_until")) and isinstance(value, str):
            yield name, when(value)
        else:
            yield name, f"{value} CYXWIZ" if f"{name}_units" in document else value


def record(document: Json) -> None:
    """Any object, field by field."""
    pairs((name.replace("_", " "), value) for name, value in fields(document))


def paged(document: Json, name: str) -> None:
    count = len(document[name])
    if document["total"] > count:
        more = "+" if document.get("total_capped") else ""
        print(f"{count} of {document['total']}{more} (page {document['page']} of {document['total_pages']}; --page)")


def size(count: int | None) -> str:
    if count is None:
        return "-"
    amount, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def when(instant: str | None) -> str:
    return instant[:19].replace("T", " ") + "Z" if instant else "-"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.0f}%"


# --- jobs


def jobs(document: Json) -> None:
    table(
        ("ID", "Name", "Status", "Progress", "Epoch", "Loss", "Created"),
        (
            (
                each["id"],
                each["name"],
                each["status"],
                percent(each["progress"]),
                f"{each['current_epoch']}/{each['epochs']}",
                each["metrics"].get("loss"),
                when(each["created_at"]),
            )
            for each in document["jobs"]
        ),
        least=("Created", "Epoch", "Loss"),
        short=("Name",),
    )
    paged(document, "jobs")


def job(document: Json) -> None:
    pairs(
        row
        for row in (
            ("job", document["id"]),
            ("name", document["name"]),
            ("status", document["status"]),
            ("phase", document["phase"]),
            ("reason", document["reason"]),
            ("error", _error(document)),
            ("progress", f"{percent(document['progress'])} (epoch {document['current_epoch']}/{document['epochs']})"),
            ("metrics", _summary(document["metrics"])),
            ("data set", document["dataset_uri"]),
            ("node", document["assigned_node_id"]),
            ("attempts", document["attempts"] if document["attempts"] > 1 else None),
            ("cost", _cost(document)),
            ("compute", f"{plain(document['compute_seconds'])} s" if document["compute_seconds"] else None),
            ("created", when(document["created_at"])),
            ("started", when(document["started_at"]) if document["started_at"] else None),
            ("completed", when(document["completed_at"]) if document["completed_at"] else None),
        )
        if row[1] not in (None, "", {})
    )


def _error(document: Json) -> str | None:
    error = document["error"]
    return ": ".join(part for part in (error["code"], error["message"]) if part) if error else None


def _cost(document: Json) -> str:
    """What a job cost once it has ended; before, what it may."""
    from cyxwiz.client import ENDED

    ended = document["status"] in ENDED
    cost = f"{document['actual_cost']} CYXWIZ" if ended else f"at most {document['estimated_cost']} CYXWIZ"
    return f"{cost}, not charged: its reservation is paid for" if document["reservation_id"] else cost


def plan(document: Json) -> None:
    # A job file says how long its job may take, and nothing of how long it will.
    pairs(
        (
            ("cost", f"at most {document['estimated_cost']} CYXWIZ"),
            ("duration", f"at most {document['expected_seconds']:g} s"),
            ("nodes that can run it", document["feasible_nodes"]),
        )
    )
    _verdicts(document["nodes"])


def _verdicts(nodes: Iterable[Json]) -> None:
    listed = list(nodes)
    if listed:
        table(
            ("Node", "Name", "Can run it", "Score", "CYXWIZ", "Why not"),
            (
                (
                    each["node_id"],
                    each["name"],
                    each["feasible"],
                    each["score"],
                    each.get("quote", {}).get("total"),
                    each["reason"],
                )
                for each in listed
            ),
            least=("Score",),
            short=("Name",),
        )
    else:
        print("There are no nodes; `cyxwiz node token create` makes a token with which one joins.")


def explanation(document: Json) -> None:
    pairs(
        (
            ("job", document["job_id"]),
            ("status", document["status"]),
            ("reason", document["reason"]),
            ("jobs ahead", document["jobs_ahead"]),
            ("not before", when(document["not_before"])),
        )
    )
    _verdicts(document["nodes"])
    if document["leases"]:
        table(
            ("Run", "Node", "State", "Given", "Ended", "Why it ended"),
            (
                (
                    number,
                    each["node_id"],
                    each["state"],
                    when(each["issued_at"]),
                    when(each["ended_at"]),
                    each["end_reason"],
                )
                for number, each in enumerate(document["leases"], start=1)
            ),
            least=("Given",),
        )
    links(document.get("links", ()))


def links(measured: Iterable[Json]) -> None:
    if listed := list(measured):
        table(
            ("Link", "", "Round trip", "MB/s", "Measured"),
            (
                (
                    *each["nodes"],
                    f"{plain(each['round_trip_ms'])} ms",
                    each["bytes_per_second"] / 1e6,
                    when(each["measured_at"]),
                )
                for each in listed
            ),
        )


def _summary(figures: Json) -> Json:
    """In the order of their names, without an evaluation's of each class, which `--output json` and its file have."""
    return {name: figures[name] for name in sorted(figures) if not OF_A_CLASS.fullmatch(name)}


def metrics(document: Json) -> None:
    course = _course(document["metrics"])
    points = [each for each in course if each["epoch_ended"]] or course
    names = sorted({name for each in points for name in each["metrics"]})
    table(
        ("Epoch", *names),
        ((each["epoch"], *(each["metrics"].get(name) for name in names)) for each in points),
        least=("samples_per_second", "learning_rate"),
    )


def _course(points: Sequence[Json]) -> list[Json]:
    """Without what a later run did anew, from where it began."""
    kept: list[Json] = []
    for point in points:
        if kept and point["attempt"] != kept[-1]["attempt"]:
            kept = [each for each in kept if each["progress"] < point["progress"]]
        kept.append(point)
    return kept


def checkpoints(document: Json) -> None:
    table(
        ("Number", "At", "Epoch", "Step", "Progress", "Size", "Kept"),
        (
            (
                each["number"],
                when(each["at"]),
                each["epoch"],
                each["step"],
                f"{each['progress']:.0%}",
                size(each["size"]),
                each["kept"],
            )
            for each in document["checkpoints"]
        ),
    )


def log_line(each: Json) -> str:
    return f"{when(each['at'])} {plain(each['level']):<7} {plain(each['message'])}"


def logs(document: Json) -> None:
    for each in document["logs"]:
        print(log_line(each))


def first_file(files: Sequence[Json]) -> str:
    """What the result's first file is called: that of other jobs than trainings stands where weights do."""
    return "weights" if not files or files[0]["name"].endswith(".safetensors") else "first file"


def result(document: Json) -> None:
    joules = document.get("energy_joules")  # which an earlier central does not tell
    pairs(
        (
            ("job", document["job_id"]),
            ("node", document["node_id"]),
            (first_file(document["files"]), document["model_weights_uri"]),
            ("hash", document["model_weights_hash"]),
            ("metrics", _summary(document["final_metrics"])),
            ("compute", f"{plain(document['total_compute_seconds'])} s"),
            *([("energy", f"{plain(joules)} J")] if joules is not None else []),
            ("chain", document["chain_head"]),
            ("signed by", document["node_public_key"]),
            ("verification", _verified(document["verification"])),
        )
    )
    table(
        ("File", "Size", "SHA-256"),
        ((each["name"], size(each["size"]), each["sha256"]) for each in document["files"]),
    )


def _verified(verification: Json | None) -> str | None:
    return None if verification is None else f"{verification['outcome']}: {verification['reason']}"


def users(document: Json) -> None:
    table(
        ("ID", "Name", "Role", "Disabled", "Created"),
        (
            (each["id"], each["name"], each["role"], each["disabled"], when(each["created_at"]))
            for each in document["users"]
        ),
        least=("Created",),
        short=("Name",),
    )
    paged(document, "users")


def blobs(document: Json) -> None:
    table(
        ("SHA-256", "Bytes", "Since"),
        ((each["sha256"], each["size"], when(each["created_at"])) for each in document["blobs"]),
        least=("Since",),
    )
    paged(document, "blobs")


def keys(document: Json) -> None:
    table(
        ("ID", "Name", "Begins with", "Created", "Revoked"),
        (
            (each["id"], each["name"], each["prefix"], when(each["created_at"]), when(each["revoked_at"]))
            for each in document["keys"]
        ),
        least=("Created", "Begins with"),
        short=("Name",),
    )
    paged(document, "keys")

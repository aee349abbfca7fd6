"""Job files: TOML, JSON or YAML by extension, a `.cyxgraph`, or a `.py`; and `--set key=value`.

Promised: what can't be read is refused with the file, the line and what is wrong there. Whether the fields make a job
is central's to say; `locate` finds the line that its answer is about. Refused: values that JSON does not have.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.domain.script import MAX_FILES

MAX_BYTES = 32 << 20
MAX_VALUES = 1_000_000
Job = dict[str, Any]


def read_job(path: Path | str, sets: Iterable[str] = ()) -> Job:
    """The job that a file describes, with the `key=value` settings laid over it.

    Raises:
        CyxError: INVALID naming the file, the line where there is one, and what is wrong.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind == ".cyxgraph":
        job: Job = {"name": path.stem, "model": {"graph": _json(path, read_text(path))}}
    elif kind == ".py":
        read_text(path)
        job = {"name": path.stem, "model": {"script": path.name}}
    elif kind in _READERS:
        job = _checked(path, _READERS[kind](path, read_text(path)))
    else:
        raise invalid(
            f"{path}: the name must end in .toml, .json, .yaml, .cyxgraph or .py, which says how it is written",
            file=str(path),
        )
    apply_sets(job, sets)
    _inline_graph(job, path.parent)
    _inline_lock(job, path.parent)
    return job


def code_files(base: Path, source: object, script: object) -> tuple[str, dict[str, Path]]:
    """(entry, files by their names below the source folder) of a job's code.

    A script alone is one file. Hidden folders, caches and links are left out of a folder.

    Raises:
        CyxError: INVALID for what is not there, is no script, or is too much.
    """
    if not isinstance(source, str | None) or not isinstance(script, str | None):
        raise invalid("model: script and source must be texts", field="model")
    if source is None:
        path = base / (script or "")
        if not path.is_file():
            raise invalid(f"model.script: {str(path)!r} is no file", field="model.script")
        return path.name, {path.name: path}
    folder = base / source
    if not folder.is_dir():
        raise invalid(f"model.source: {str(folder)!r} is no folder", field="model.source")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_symlink() or not path.is_file() or any(_left_out(part) for part in parts):
            continue
        files["/".join(parts)] = path
        if len(files) > MAX_FILES:
            raise invalid(f"model.source: {str(folder)!r} has more than {MAX_FILES} files", field="model.source")
    entry = script or next((name for name in ("train.py", "main.py") if name in files), "")
    if entry not in files:
        raise invalid(f"model.script: name the file in {str(folder)!r} that is to be run", field="model.script")
    return entry, files


def weights_file(model: Mapping[str, Any], base: Path) -> Path | None:
    """The file of trained weights, or the directory of a `.cyxmodel`, that `model.weights` names; None where it names a
    blob or nothing.

    Raises:
        CyxError: INVALID for a path that is neither.
    """
    weights = model.get("weights")
    if not isinstance(weights, str) or re.match(r"(blob|sha256):", weights):
        return None
    path = base / weights
    if path.is_dir():
        if not any((path / name).is_file() for name in ("manifest.json", "metadata.json")):
            raise invalid(
                f"model.weights: {str(path)!r} is no directory of a .cyxmodel, which has a manifest.json; name one, "
                "or a file",
                field="model.weights",
            )
    elif not path.is_file():
        raise invalid(
            f"model.weights: {str(path)!r} is no file; name one beside the job file, or blob:sha256:…",
            field="model.weights",
        )
    return path


def _left_out(name: str) -> bool:
    return name.startswith(".") or name in ("__pycache__", "node_modules") or name.endswith(".pyc")


def apply_sets(job: Job, sets: Iterable[str]) -> None:
    """Lays `dotted.key=value` over a job: the value as TOML writes it, anything else as text.

    Raises:
        CyxError: INVALID for a setting without '=', or a key below something that is no table.
    """
    for setting in sets:
        key, equals, text = setting.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise invalid(f"--set {setting!r}: must be key=value, such as epochs=5 or model.graph=mlp.cyxgraph")
        table: Any = job
        for depth, name in enumerate(names[:-1], start=1):
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise invalid(f"--set {setting!r}: {'.'.join(names[:depth])} is {_kind(table)}, not a table")
        value = _literal(text.strip())
        _check_plain(value, f"--set {key}", count=itertools.count())
        table[names[-1]] = value


def _literal(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if len(document) == 1 else text


def read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise invalid(f"{path}: is larger than {MAX_BYTES >> 20} MiB, which no job file is", file=str(path))
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise invalid(f"{path}: no such file", file=str(path)) from None
    except UnicodeDecodeError as error:
        raise invalid(f"{path}: is not UTF-8 text (byte {error.start})", file=str(path)) from None
    except OSError as error:
        raise invalid(f"{path}: can't be read: {error.strerror}", file=str(path)) from None


def locate(path: Path | str, field: str) -> int | None:
    """The line of a job file that sets `field` (dotted); None unless exactly one does."""
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        return None
    *tables, name = [part for part in field.split(".") if not part.isdigit()] or [""]
    key = re.compile(rf"""(?:^|[{{,\[])\s*["']?{re.escape(name)}["']?\s*[:=]""")
    section, found = "", []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        header = re.match(r"\s*\[([\w.\s\"']+)\]\s*(#.*)?$", line)
        if header and path.suffix.lower() == ".toml":
            section = header[1].strip()
        elif key.search(line) and (path.suffix.lower() != ".toml" or section == ".".join(tables[:1])):
            found.append(number)
    return found[0] if len(found) == 1 else None


# --- the three ways of writing


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\s*\(at line (\d+), column (\d+)\)$", str(error))
        if place is None:
            raise _unreadable(path, str(error), text.count("\n") + 1) from None
        raise _unreadable(path, str(error)[: place.start()], int(place[1]), int(place[2])) from None
    except RecursionError:
        raise _unreadable(path, "is nested too deeply") from None
    except ValueError as error:  # such as a number of more digits than Python reads
        raise _unreadable(path, str(error)) from None


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _unreadable(path, error.msg, error.lineno, error.colno) from None
    except RecursionError:
        raise _unreadable(path, "is nested too deeply") from None
    except ValueError as error:
        raise _unreadable(path, str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> Job:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return table


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _yaml(path: Path, text: str) -> Any:
    import yaml

    class Strict(yaml.SafeLoader):
        """Refuses a key that is given twice, which YAML forbids and the loader lets pass."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, str) and key in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key!r} is given twice", problem_mark=key_node.start_mark)
                seen.add(key if isinstance(key, str) else id(key_node))
            return super().construct_mapping(node, deep=deep)

    try:
        return yaml.load(text, Loader=Strict)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "can't be read as YAML"
        raise _unreadable(path, what, mark.line + 1 if mark else None, mark.column + 1 if mark else None) from None
    except RecursionError:
        raise _unreadable(path, "is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise _unreadable(path, " ".join(str(error).split())) from None


_READERS = {".toml": _toml, ".json": _json, ".yaml": _yaml, ".yml": _yaml}


def _unreadable(path: Path, what: str, line: int | None = None, column: int | None = None) -> CyxError:
    place = f":{line}" if line else ""
    place += f":{column}" if line and column else ""
    return invalid(f"{path}{place}: {what}", file=str(path), line=line)


# --- what was read


def _checked(path: Path, document: Any) -> Job:
    if not isinstance(document, dict):
        raise invalid(f"{path}: must hold a table of fields (name, dataset, model, …), not {_kind(document)}")
    try:
        _check_plain(document, "", count=itertools.count())
    except CyxError as error:
        line = locate(path, str(error.details.get("field", "")))
        raise invalid(f"{path}{f':{line}' if line else ''}: {error.message}", **error.details) from None
    return document


def _check_plain(value: Any, where: str, depth: int = 0, *, count: Iterator[int]) -> None:
    if depth > 100:
        raise invalid(f"{where}: is nested too deeply")
    if next(count) >= MAX_VALUES:  # YAML's aliases make a small file a document without end
        raise invalid(f"has more than {MAX_VALUES} values, which no job has")
    if isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str):
                raise invalid(f"{where or 'the file'}: the key {key!r} must be text; quote it", field=where)
            _check_plain(each, f"{where}.{key}" if where else key, depth + 1, count=count)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            _check_plain(each, f"{where}.{number}", depth + 1, count=count)
    elif isinstance(value, float) and not math.isfinite(value):
        raise invalid(f"{where}: {value} is no number that a job can have", field=where)
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        raise invalid(f"{where}: {value} is {_kind(value)}, which a job can't have; quote it", field=where)


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "a table", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), f"a {type(value).__name__}")


def _inline_graph(job: Job, folder: Path) -> None:
    """Replaces `model.graph = "file.cyxgraph"` by what the file holds; JSON text stays as it is."""
    model = job.get("model")
    graph = model.get("graph") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(graph, str) and not graph.lstrip().startswith("{"):
        path = folder / graph
        try:
            model["graph"] = _json(path, read_text(path))
        except CyxError as error:
            raise invalid(f"model.graph: {error.message}", **{"field": "model.graph", **error.details}) from None


def _inline_lock(job: Job, folder: Path) -> None:
    """Replaces `requirements = "requirements.lock"` by what the file holds; a lock's own text stays as it is."""
    named = job.get("requirements")
    if isinstance(named, str) and "==" not in named:
        try:
            job["requirements"] = read_text(folder / named)
        except CyxError as error:
            raise invalid(f"requirements: {error.message}", **{"field": "requirements", **error.details}) from None

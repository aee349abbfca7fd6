"""What there is to fetch for a URI: the files of a web address, a bucket, a repository of the hub, or a CID."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from cyxwiz.compute.data.buckets import Bucket
from cyxwiz.compute.data.files import IMAGES, SUFFIXES, walk
from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.compute.data.web import Web, read_small
from cyxwiz.domain.errors import Code, CyxError, invalid
from cyxwiz.graph.dataset_uri import DatasetUri, hub_parts

MAX_ITEMS = 100_000
LISTING_BYTES = 64 << 20
HUB = "https://huggingface.co"
_METADATA = ("dataset_infos.json", "dataset_dict.json", "dataset_info.json", "state.json", "package.json")


@dataclass(frozen=True, slots=True)
class Item:
    """One file: its path in the data set and how it is addressed, which may differ from attempt to attempt."""

    path: str
    url: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Plan:
    """`version` is empty where only the server's answer to a conditional request tells whether data changed.

    `folder` is true where the data set is a folder even if it has one file. `local` is a folder to
    copy the items' paths from instead.
    """

    items: Sequence[Item] = ()
    version: str = ""
    folder: bool = False
    trusted: bool = False
    local: Path | None = None


class Sources:
    def __init__(self, web: Web, settings: FetchSettings) -> None:
        self._web = web
        self._settings = settings
        self._bucket = Bucket(settings)

    async def plan(self, uri: str, parsed: DatasetUri) -> Plan:
        """Raises CyxError as the source says, and Cut where it can't be asked now."""
        if parsed.scheme == "s3":
            return await asyncio.to_thread(self._from_bucket, uri, parsed)
        if parsed.scheme == "hf":
            return await self._from_hub(uri, parsed)
        if parsed.scheme == "ipfs":
            return self._from_gateway(uri, parsed)
        url = f"{parsed.scheme}://{parsed.kind}{parsed.rest}"
        return Plan([Item(_last(urlsplit(url).path), lambda: url)])

    # s3

    def _from_bucket(self, uri: str, parsed: DatasetUri) -> Plan:
        found = self._bucket.objects(uri, parsed.kind, parsed.rest)
        if len(found) > MAX_ITEMS:
            raise _too_many(uri, len(found))
        _bound(uri, sum(each.size for each in found), self._settings.max_dataset_bytes)
        folder = found[0].key != parsed.rest
        above = len(parsed.rest.rstrip("/")) + 1 if folder and parsed.rest else 0
        items = [
            Item(
                each.key[above:] if folder else _last(each.key),
                lambda each=each: self._bucket.url(parsed.kind, each.key),
            )
            for each in found
        ]
        version = _digest(*(f"{each.key} {each.etag} {each.size}" for each in found))
        return Plan(items, version, folder, trusted=bool(self._settings.s3_endpoint))

    # hf

    async def _from_hub(self, uri: str, parsed: DatasetUri) -> Plan:
        repository, revision, path = hub_parts(parsed)
        local = await asyncio.to_thread(self._local, uri, parsed)
        if local is not None:
            return local
        endpoint = (self._settings.hf_endpoint or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        trusted = endpoint != HUB
        listing = await read_small(
            self._web,
            uri,
            f"{endpoint}/api/datasets/{repository}/revision/{quote(revision, safe='')}",
            LISTING_BYTES,
            trusted=trusted,
        )
        try:
            document = json.loads(listing)
            commit = str(document["sha"])
            names = [str(each["rfilename"]) for each in document["siblings"]]
        except (ValueError, KeyError, TypeError) as error:
            raise invalid(f"The dataset {uri}: the hub's listing can't be read.", uri=uri) from error
        chosen = choose_files(uri, names, path)
        base = f"{endpoint}/datasets/{repository}/resolve/{quote(commit, safe='')}"
        items = [
            Item(_last(name) if name == path else name, lambda name=name: f"{base}/{quote(name)}") for name in chosen
        ]
        return Plan(items, f"commit {commit}", folder=chosen != [path], trusted=trusted)

    def _local(self, uri: str, parsed: DatasetUri) -> Plan | None:
        """The same repository below node.hf_root, as OWNER/NAME or, for a stated revision, OWNER/NAME@REVISION."""
        if self._settings.hf_root is None:
            return None
        root = self._settings.hf_root.resolve()
        repository, revision, path = hub_parts(parsed)
        stated = f"{repository}@{revision}" if "@" in parsed.rest.split("/")[1] else repository
        place = (root / stated / path).resolve()
        if not place.is_relative_to(root):
            raise CyxError(Code.FORBIDDEN, f"The dataset {uri} leads outside node.hf_root.", {"uri": uri})
        if not place.exists():
            return None
        base, names = place, [each.relative_to(place).as_posix() for each in walk(uri, place)] if place.is_dir() else []
        if place.is_file():
            base, names = place.parent, [place.name]
        names = choose_files(uri, names, place.name if place.is_file() else "")
        stats = [(base / name).stat() for name in names]
        _bound(uri, sum(stat.st_size for stat in stats), self._settings.max_dataset_bytes)
        version = _digest(*(f"{name} {s.st_size} {s.st_mtime_ns}" for name, s in zip(names, stats, strict=True)))
        items = [Item(name, lambda: "") for name in names]
        return Plan(items, f"local {version}", folder=place.is_dir(), local=base)

    # ipfs

    def _from_gateway(self, uri: str, parsed: DatasetUri) -> Plan:
        gateway = self._settings.ipfs_gateway.rstrip("/")
        if not gateway:
            raise CyxError(
                Code.UNSUPPORTED,
                f"The dataset {uri}: this node has no gateway to IPFS; its owner may set node.ipfs_gateway.",
                {"uri": uri},
                retryable=True,
            )
        path = f"/{quote(parsed.rest)}" if parsed.rest else ""
        url = f"{gateway}/ipfs/{parsed.kind}{path}"
        return Plan([Item(_last(parsed.rest or parsed.kind), lambda: url)], version="immutable", trusted=True)


def choose_files(uri: str, names: Sequence[str], path: str) -> list[str]:
    """The data files of a repository below a path: that file alone, or all of one kind (parquet before pictures)."""
    if path in names:
        return [path]
    below = [name for name in names if not path or name.startswith(f"{path}/")]
    data = [
        name
        for name in below
        if PurePosixPath(name).suffix.lower() in (*SUFFIXES, *IMAGES)
        and PurePosixPath(name).suffix.lower() != ".txt"
        and _last(name) not in _METADATA
        and not any(part.startswith(".") for part in name.split("/"))
    ]
    for kinds in ((".parquet",), IMAGES):
        some = [name for name in data if PurePosixPath(name).suffix.lower() in kinds]
        if some:
            data = some
            break
    if not data:
        raise CyxError(Code.NOT_FOUND, f"The dataset {uri} has no data file of a known format there.", {"uri": uri})
    if len(data) > MAX_ITEMS:
        raise _too_many(uri, len(data))
    return sorted(data)


def _last(path: str) -> str:
    """A name for the one file of a data set: the last part of its address, in plain characters."""
    name = unquote(path.rstrip("/").rpartition("/")[2])[-100:]
    name = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in name)
    return name.lstrip("._-") or "data"


def _digest(*lines: str) -> str:
    return hashlib.sha256("\n".join(lines).encode(errors="replace")).hexdigest()


def _bound(uri: str, size: int, limit: int) -> None:
    if size > limit:
        raise invalid(
            f"The dataset {uri} has {size} bytes; this node takes at most {limit} (node.max_dataset_bytes).",
            uri=uri,
            bound=limit,
        )


def _too_many(uri: str, count: int) -> CyxError:
    return invalid(f"The dataset {uri} has {count} files; at most {MAX_ITEMS} are fetched.", uri=uri, bound=MAX_ITEMS)

"""Types of settings: what a text may be, and what it becomes. Errors say what it must be."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cyxwiz.domain.base58 import parse_wallet
from cyxwiz.domain.errors import CyxError
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.domain.pricing import CURRENCIES
from cyxwiz.domain.schedule import parse_schedule

MAX_KEEP_SECONDS = 3660 * 86400


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        value = (
            json.loads(value) if value.startswith("[") else [part.strip() for part in value.split(",") if part.strip()]
        )
    return tuple(value) if isinstance(value, list) else value


def _address(value: Any) -> str:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("must be host:port with a port from 0 to 65535")
    return str(value)


def _schedule(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text such as always or Mon-Fri 19:00-07:00, Sat-Sun")
    return parse_schedule(value).text


def _url(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    scheme, found, host = text.partition("://")
    if not found or scheme not in ("http", "https") or not host.partition("/")[0] or "@" in host:
        raise ValueError("must be http://HOST or https://HOST, without credentials")
    return text.rstrip("/")


def _amount(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError('must be an amount of CYXWIZ such as "0.25"')
    text = value if isinstance(value, str) else format(Decimal(repr(value)), "f")
    try:
        parse_cyxwiz(text)
    except CyxError as error:
        raise ValueError(error.message.removeprefix("amount: ")) from None
    return text


def currencies_checked(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value not in CURRENCIES:
            raise ValueError(f"{value!r} is none of {', '.join(CURRENCIES)}")
    return tuple(each for each in CURRENCIES if each in values)


def blobs_url_checked(value: str) -> str:
    if value and not value.startswith("file:///"):
        raise ValueError("only file:///path is built")
    return value


def database_url_checked(value: str) -> str:
    scheme, found, rest = value.partition("://")
    backend = scheme.partition("+")[0]
    if value and (not found or backend not in ("sqlite", "postgres", "postgresql")):
        raise ValueError("must be sqlite:///path or postgresql://user@host/name")
    if backend == "sqlite" and (not rest.startswith("/") or rest.partition("?")[0] in ("/", "/:memory:")):
        raise ValueError("names no file: it must be sqlite:///relative/path or sqlite:////absolute/path")
    return value


def wallet_checked(value: str) -> str:
    try:
        parse_wallet(value, "address")
    except CyxError as error:
        raise ValueError(error.message.removeprefix("address: ")) from None
    return value


def keep_checked(value: str) -> str:
    if seconds(value) > MAX_KEEP_SECONDS:
        raise ValueError(f"at most {MAX_KEEP_SECONDS // 86400}d")
    return value


def seconds(span: str) -> float:
    return float(span[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[span[-1]]


def devices_checked(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not re.fullmatch(r"all|cpu|(cuda|opencl|metal|vulkan)(:.+)?", value.lower()):
            raise ValueError(f"{value!r} is no device: all, cpu, cuda, cuda:0 and so on")
    return values


Strings = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Address = Annotated[str, BeforeValidator(_address)]
ScheduleText = Annotated[str, BeforeValidator(_schedule)]
Url = Annotated[str, BeforeValidator(_url)]
MIN_SECRET = 16
Secret = Annotated[str, Field(min_length=MIN_SECRET)]
Weight = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[str, BeforeValidator(_amount)]

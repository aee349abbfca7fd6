"""From the layers to a value, with the origin of each setting."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cyxwiz.config.sections import Config, Section, sections, settings_of
from cyxwiz.config.values import MIN_SECRET
from cyxwiz.domain.errors import meant

ENV_PREFIX = "CYXWIZ_"
FILE = Path("config.toml")
ENVIRONMENT = f"environment {ENV_PREFIX}"  # how these layers are named as an origin; a file is by its path
FLAGS = ("flag --set", "flag")
MASK = "********"


class ConfigError(Exception):
    """The settings can't be used; the message is one line for a person."""


SECRETS = frozenset(
    {"auth.jwt_secret", "auth.p2p_secret", "auth.admin_secret", "node.join_token", "node.s3_secret_key"}
)
_URLS = ("database.url", "redis.url")  # with a password where nobody can say, if they are none


@dataclass(frozen=True)
class Loaded:
    """The settings with the origin of each: `default`, a file, `environment` or `flag`."""

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def refusal(self, key: str, why: str) -> ConfigError:
        """What is wrong with a setting, for whoever can't go on with it."""
        value: Any = self.config
        for part in key.split("."):
            value = getattr(value, part)
        return _refusal(key, value, why, self.origins)

    def rows(self) -> Iterable[tuple[str, Any, str]]:
        """(key, value as JSON has it, origin) of every setting; secrets, and passwords in URLs, are masked."""
        for section, kind in sections().items():
            part: Any = self.config
            for each in section.split("."):
                part = getattr(part, each)
            for name in settings_of(kind):
                key, value = f"{section}.{name}", getattr(part, name)
                if key in SECRETS and value is not None:
                    shown = MASK
                else:
                    shown = _without_passwords(json.loads(json.dumps(value, default=str)))
                yield key, shown, self.origins.get(key, "default")


def _without_passwords(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_passwords(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_passwords(each) for name, each in value.items()}
    return without_password(value) if isinstance(value, str) else value


def without_password(text: str) -> str:
    """The text with the password of a URL in it masked, up to the last @, as a password may have one, and access keys
    in its query.
    """
    text = re.sub(r"(://[^:/@\s]*:).*@", rf"\g<1>{MASK}@", text)
    return re.sub(r"([?&](?:password|[\w-]*(?:key|token|secret))=)[^&\s'\"]*", rf"\g<1>{MASK}", text, flags=re.I)


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """Builds the configuration from all layers.

    Raises:
        ConfigError: one line naming key, value, bound and origin.
    """
    tree: dict[str, Any] = {}
    known = sections()
    origins: dict[str, str] = {}
    warnings: list[str] = []

    def put(key: str, value: Any, origin: str) -> None:
        section, _, name = key.rpartition(".")
        if section not in known or name not in settings_of(known[section]):
            names = settings_of(known[section]) if section in known else ()
            every = [f"{each}.{setting}" for each, part in known.items() for setting in settings_of(part)]
            hint = meant(name, names) if names else meant(key, every)
            hint = hint or "; `cyxwiz config show` lists them all"
            raise ConfigError(f"{key}: unknown setting (from {origin}){hint}")
        part = tree
        for each in section.split("."):
            part = part.setdefault(each, {})
        part[name] = value
        origins[key] = origin

    for key, value, origin in _from_file(file):
        put(key, value, origin)
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX) and "__" in name:
            stated = name[len(ENV_PREFIX) :]
            put(stated.lower().replace("__", "."), value, f"{ENVIRONMENT}{stated}")
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not equals:
            raise ConfigError(f"--set {flag}: must be section.key=value")
        if key not in SECRETS and without_password(value) != value:
            name = f"{ENV_PREFIX}{key.upper().replace('.', '__')}"
            warnings.append(f"--set {key}: other users of this machine can read its password or key; use {name}")
        if key in SECRETS:
            warnings.append(f"--set {key}: other users of this machine can read it; use {key}_file")
        put(key, value, FLAGS[0])
    for key, value in (overrides or {}).items():
        put(key, value, FLAGS[1])
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_line(error.errors()[0], tree, origins)) from None
    _check_types(tree, origins, str(file or FILE))
    return Loaded(_read_secret_files(config, origins), origins, tuple(warnings))


def _from_file(file: Path | None) -> Iterable[tuple[str, Any, str]]:
    path = file or FILE
    if not path.exists():
        if file:
            raise ConfigError(f"{file}: no such configuration file")
        return
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:  # what is no TOML or no UTF-8, or has a number of too many digits
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    for section, values in data.items():
        if not isinstance(values, dict):
            raise ConfigError(
                f"{section}: unknown setting (from {path}); settings stand in sections, [server] and so on"
            )
        yield from _flat(section, values, str(path))


def _flat(section: str, values: Mapping[str, Any], origin: str) -> Iterable[tuple[str, Any, str]]:
    for name, value in values.items():
        key = f"{section}.{name}"
        if key in sections() and isinstance(value, dict):
            yield from _flat(key, value, origin)
        else:
            yield key, value, origin


def _check_types(tree: Mapping[str, Any], origins: Mapping[str, str], file: str) -> None:
    """A file can say what a value is, as the environment can't: there a text is no number, and a number neither true
    nor false.
    """
    written: dict[str, Any] = {}
    for key, origin in origins.items():
        if origin == file:
            part, found = written, tree
            *names, last = key.split(".")
            for name in names:
                part, found = part.setdefault(name, {}), found[name]
            part[last] = found[last]
    try:
        Config.model_validate_json(json.dumps(written), strict=True)
    except ValidationError as error:
        for each in error.errors():
            if _depth(each["loc"]) <= len(each["loc"]):  # others are about what stands elsewhere
                raise ConfigError(_line(each, tree, origins)) from None


def _depth(place: Sequence[int | str]) -> int:
    """How many names make the setting to which the place of an error leads."""
    return 2 if ".".join(str(part) for part in place[:2]) not in sections() else 3


def _line(error: Mapping[str, Any], tree: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    place = [str(part) for part in error["loc"]]
    depth, why = _depth(place), error["msg"].removeprefix("Value error, ")
    key = ".".join(place[:depth])
    if len(place) < depth:
        own = {name: origin for name, origin in origins.items() if name.rpartition(".")[0] == key}
        named = {name: own[name] for name in own if name.rpartition(".")[2] in why} or own
        return f"[{key}]: {why} ({', '.join(f'{name} from {origin}' for name, origin in sorted(named.items()))})"
    found: Any = tree
    for part in place[:depth]:
        found = found.get(part) if isinstance(found, dict) else None
    return str(_refusal(key, found, why, origins))


def _refusal(key: str, value: Any, why: str, origins: Mapping[str, str]) -> ConfigError:
    """The one line of a wrong setting: its key, its value if that is no secret, what it must be, where it came from."""
    hidden = key in SECRETS or (key in _URLS and "://" not in str(value))
    shown = MASK if hidden else without_password(repr(str(value) if isinstance(value, Path) else value))
    return ConfigError(f"{key} = {shown}: {why} (from {origins.get(key, 'default')})")


def _read_secret_files(config: Config, origins: dict[str, str]) -> Config:
    """The settings with the secrets that lie in files; the file is where each comes from."""
    sections: dict[str, Section] = {}
    for key in SECRETS:
        section, _, name = key.partition(".")
        part = sections.get(section) or getattr(config, section)
        path: Path | None = getattr(part, f"{name}_file")
        if path is None or _layer(key, origins) > _layer(f"{key}_file", origins):
            continue
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror or "can't be read") if isinstance(error, OSError) else "is no text"
            raise _refusal(f"{key}_file", path, why, origins) from None
        if not text:
            raise _refusal(f"{key}_file", path, "is empty", origins)
        if section == "auth" and len(text) < MIN_SECRET:
            why = f"has {len(text)} characters; a secret has {MIN_SECRET} at least"
            raise _refusal(f"{key}_file", path, why, origins)
        sections[section] = part.model_copy(update={name: text})
        origins[key] = str(path)
    return config.model_copy(update=sections)


def _layer(key: str, origins: Mapping[str, str]) -> int:
    """How far above the default a setting was stated."""
    origin = origins.get(key)
    if origin is None:
        return 0
    return 3 if origin in FLAGS else 2 if origin.startswith(ENVIRONMENT) else 1


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    given = environ.get("CYXWIZ_DATA_DIR")
    return Path(given) if given else Path.home() / ".local" / "share" / "cyxwiz"

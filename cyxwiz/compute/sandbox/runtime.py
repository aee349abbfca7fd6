"""The interpreter and its packages: where they lie on this machine, and where a child in a sandbox sees them.

An interpreter that is not part of the system is shown at /opt/python, folders of packages at /opt/packages/N, whatever
they are called here. Both may lie where the child's user can't go, below root's home for one: they are bound, and no
parent of theirs is. The packages follow the interpreter's own on sys.path, in this process's order. The folder of
packages that came with an interpreter is covered where this process does not use it, as in a virtual environment.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PYTHON = Path("/opt/python")
PACKAGES = Path("/opt/packages")
USER_BASE = Path("/opt/cyxwiz")  # Python takes a .pth file from below here, which puts folders where they belong
# What a child imports at most, besides this package; where they lie is what it has to see.
NEEDED = ("torch", "numpy", "safetensors", "sklearn", "scipy", "cupy")
PACKAGE = Path(__file__).resolve().parents[2]  # this package's own folder


@dataclass(frozen=True, slots=True)
class Runtime:
    """A Python and what it imports."""

    python: Path  # the program, as it is on this machine
    binds: Mapping[Path, Path]  # real folder: where it is seen
    paths: tuple[Path, ...]  # of packages, as they are seen, in the order of sys.path
    site: Path  # where a .pth file that names them is to be seen

    @property
    def seen_python(self) -> Path:
        for real, seen in self.binds.items():
            if self.python.is_relative_to(real):
                return seen / self.python.relative_to(real)
        return self.python

    @property
    def library_path(self) -> str:
        """Where a shared libpython is looked for: the place that the program names is not there any more."""
        shared = sysconfig.get_config_var("Py_ENABLE_SHARED") and PYTHON in self.binds.values()
        return str(PYTHON / "lib") if shared else ""


def find_runtime() -> Runtime:
    """This process's interpreter and packages."""
    prefix = Path(sys.base_prefix).resolve()
    python = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    binds: dict[Path, Path] = {} if prefix.is_relative_to("/usr") else {prefix: PYTHON}
    paths: list[Path] = []
    for real in _package_folders():
        if real.is_relative_to("/usr") or real.is_relative_to(prefix):
            continue  # the interpreter finds them by itself, unless it runs in an environment of its own
        seen = PACKAGES / str(len(paths))
        # Of a checkout only the package is shown: what lies beside it is nobody's business.
        binds[PACKAGE if real == PACKAGE.parent and not _is_site(real) else real] = (
            seen / PACKAGE.name if real == PACKAGE.parent and not _is_site(real) else seen
        )
        paths.append(seen)
    return Runtime(python, binds, tuple(paths), _site(prefix, binds))


def _site(prefix: Path, binds: Mapping[Path, Path]) -> Path:
    """The interpreter's own folder of packages, covered, if this process does not use it; else one that is added.
    What is installed there would only be in the way, and what its .pth files start would cost each start."""
    own = Path(sysconfig.get_path("purelib", vars={"base": str(prefix)}))
    if prefix in binds and own.is_dir() and own.resolve() not in _package_folders():
        return binds[prefix] / own.relative_to(prefix)
    return USER_BASE / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def readable_roots() -> list[Path]:
    """What a child must be able to read where it sees the machine as it is."""
    roots = [Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve()]
    for folder in _package_folders():
        roots.append(PACKAGE if folder == PACKAGE.parent and not _is_site(folder) else folder)
    return list(dict.fromkeys(roots))


def _is_site(folder: Path) -> bool:
    return folder.name in ("site-packages", "dist-packages")


def _package_folders() -> list[Path]:
    """Folders of packages, resolved, in the order of sys.path: sites, and those where a needed package lies."""
    wanted = {Path(folder).resolve() for folder in site.getsitepackages()} | {PACKAGE.parent}
    if site.ENABLE_USER_SITE:
        wanted.add(Path(site.getusersitepackages()).resolve())
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            wanted.add(Path(next(iter(spec.submodule_search_locations))).resolve().parent)
    listed = [Path(entry or os.curdir).resolve() for entry in sys.path]
    ordered = [folder for folder in dict.fromkeys(listed) if folder in wanted]
    rest = [folder for folder in sorted(wanted) if folder not in ordered]
    return [folder for folder in (*ordered, *rest) if folder.is_dir()]

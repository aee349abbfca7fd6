"""What detection may touch of a machine: its files, its tools, NVML and the installed torch.

Everything is a field, so that a recording of another machine can stand in for this one.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyxwiz.compute.hardware.patience import Patient

NVML_SECONDS = 2.0
TOOL_SECONDS = 10.0
TORCH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What a tool printed, or why it is no answer."""

    text: str
    problem: str = ""


class NoNvmlError(Exception):
    """NVML can't be asked; the message says why, and is empty where no NVIDIA driver is."""


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """What the installed torch was built for; None: not for that."""

    version: str
    cuda: str | None = None
    hip: str | None = None


def run_tool(command: Sequence[str], seconds: float = TOOL_SECONDS) -> Ran:
    """Runs a tool to its end, in the C locale, and reads its standard output."""
    try:
        done = subprocess.run(  # noqa: S603  names are fixed in this package
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return Ran("", f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Ran("", f"{command[0]} did not answer within {seconds:g} s")
    except OSError as error:
        return Ran("", f"{command[0]} can't be run: {error.strerror}")
    return outcome(command[0], done.returncode, done.stdout, done.stderr)


def outcome(tool: str, status: int, output: str, errors: str) -> Ran:
    """What a tool's end means. One that prints nothing and complains has failed, whatever its status says."""
    if status != 0:
        said = (errors.strip() or output.strip()).splitlines()
        why = f": {said[-1][:200]}" if said else ""
        return Ran(output, f"{tool} ended with status {status}{why}")
    if errors.strip() and not output.strip():
        return Ran(output, f"{tool} printed nothing: {errors.strip().splitlines()[-1][:200]}")
    return Ran(output)


@functools.cache
def _patient_nvml() -> Any:
    try:
        import pynvml
    except ImportError:
        raise NoNvmlError("the package nvidia-ml-py is not installed (pip install cyxwiz[node])") from None
    return Patient(pynvml, NVML_SECONDS)


def load_nvml() -> Any:
    """The module pynvml, initialised, whose calls come back in any case. Raises NoNvmlError."""
    nvml = _patient_nvml()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        missing = getattr(error, "value", None) == nvml.NVML_ERROR_LIBRARY_NOT_FOUND
        raise NoNvmlError("" if missing else f"NVML does not start: {error}") from None
    return nvml


def installed_torch() -> TorchBuild | None:
    """Read from torch's version file: importing torch costs seconds and hundreds of MB."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    try:
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    return parse_torch_build(text)


def parse_torch_build(text: str) -> TorchBuild:
    """From the text of torch/version.py: lines such as `cuda: Optional[str] = '12.8'`."""

    def value(name: str) -> str | None:
        match = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
        return match[1] if match else None

    return TorchBuild(value("__version__") or "unknown", value("cuda"), value("hip"))


_PROBE = """
import json, torch
found = []
for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    facts = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    pci = None
    if hasattr(facts, "pci_bus_id"):
        pci = f"{facts.pci_domain_id:04x}:{facts.pci_bus_id:02x}:{facts.pci_device_id:02x}.0"
    found.append({
        "index": index, "name": facts.name, "total": total, "free": free, "pci": pci,
        "uuid": str(getattr(facts, "uuid", "")), "units": facts.multi_processor_count,
        "capability": [facts.major, facts.minor], "integrated": bool(getattr(facts, "is_integrated", False)),
    })
print(json.dumps(found))
"""


def ask_torch() -> Ran:
    """A JSON list of what torch sees, from a process of its own that ends at once."""
    ran = run_tool([sys.executable, "-I", "-c", _PROBE], TORCH_SECONDS)
    if ran.problem:
        return Ran("", f"torch was asked in a child process: {ran.problem.partition(': ')[2] or ran.problem}")
    return Ran(ran.text.strip().splitlines()[-1] if ran.text.strip() else "[]")


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine, unless a test says otherwise."""

    root: Path = Path("/")
    system: str = field(default_factory=platform.system)
    run: Callable[[Sequence[str]], Ran] = run_tool
    which: Callable[[str], str | None] = shutil.which
    nvml: Callable[[], Any] = load_nvml
    torch: Callable[[], TorchBuild | None] = installed_torch
    ask_torch: Callable[[], Ran] = ask_torch
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """A small file's text without the white space around it; None where it can't be read."""
        return read(self.path(name))

    def tool(self, name: str, *elsewhere: str) -> str | None:
        """Where a tool is: on the path, or one of the given files."""
        found = self.which(name)
        return found or next((each for each in elsewhere if self.path(each).is_file()), None)


def read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    text = read(path)
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None


def parse_json(text: str) -> Any:
    """The JSON document in a tool's output, which may have warnings before it. Raises ValueError."""
    starts = [at for at in (text.find("{"), text.find("[")) if at >= 0]
    if not starts:
        raise ValueError("no JSON in the output")
    return json.JSONDecoder().raw_decode(text[min(starts) :])[0]

"""Generates the committed protobuf code from proto/. Run by `make proto`.

`--out DIR` writes it there instead, into the same folders. `--check` writes nothing and fails, naming the files, when
what is committed is not what proto/ gives.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("cyxwiz/protocol", "cyxwiz/ext/v1")


def generate(out: Path) -> int:
    """Writes all generated modules below `out`, and takes away those that no .proto stands for."""
    sources = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    for path in generated(out).values():
        path.unlink()
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT / 'proto'}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            *sources,
        ]
    )
    # A file without a service gets an empty gRPC module: leave only those that register something.
    for path in generated(out).values():
        if path.name.endswith("_pb2_grpc.py") and "add_" not in path.read_text():
            path.unlink()
    return int(status)


def generated(out: Path) -> dict[str, Path]:
    """The generated modules below `out`, by their names."""
    return {f"{folder}/{path.name}": path for folder in FOLDERS for path in (out / folder).glob("*_pb2*.py*")}


def differences(out: Path) -> list[str]:
    """The names of modules below `out` that the checkout has otherwise, or not, or in vain."""
    ours, fresh = generated(ROOT), generated(out)
    return sorted(
        name
        for name in ours.keys() | fresh.keys()
        if name not in ours or name not in fresh or ours[name].read_bytes() != fresh[name].read_bytes()
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT, help="where to write; the checkout by default")
    parser.add_argument("--check", action="store_true", help="only say whether what is committed is up to date")
    given = parser.parse_args(arguments)
    if not given.check:
        given.out.mkdir(parents=True, exist_ok=True)
        return generate(given.out.resolve())
    with tempfile.TemporaryDirectory() as folder:
        status = generate(Path(folder))
        stale = [] if status else differences(Path(folder))
    for name in stale:
        print(f"{name} is out of date: run scripts/gen_protos.py", file=sys.stderr)
    return status or int(bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

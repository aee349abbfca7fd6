"""Generates the committed protobuf code from proto/. Run by `make proto`; CI checks that it gives no diff."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    sources = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    for directory in ("cyxwiz/protocol", "cyxwiz/ext/v1"):
        for stale in (ROOT / directory).glob("*_pb2*"):
            stale.unlink()
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT / 'proto'}",
            f"--python_out={ROOT}",
            f"--pyi_out={ROOT}",
            f"--grpc_python_out={ROOT}",
            *sources,
        ]
    )
    # A file without a service gets an empty gRPC module: leave only those that register something.
    for module in (ROOT / "cyxwiz").rglob("*_pb2_grpc.py"):
        if "add_" not in module.read_text():
            module.unlink()
    return int(status)


if __name__ == "__main__":
    sys.exit(main())

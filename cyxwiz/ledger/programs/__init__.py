"""The on-chain programs as they were built from programs/: one shared object each, and the manifest of their hashes."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from importlib.resources import files

from solders.pubkey import Pubkey

from cyxwiz.domain.errors import Code, CyxError


class Program(StrEnum):
    """A program by the name of its binary. PaymentStreaming is a mode of `escrow`."""

    ESCROW = "escrow"
    STAKING = "staking"


def binary(program: Program) -> bytes:
    """The shared object for the loader.

    Raises:
        CyxError: UNAVAILABLE when the file is missing or is not the one of the manifest.
    """
    folder = files(__name__)
    try:
        manifest = json.loads(folder.joinpath("manifest.json").read_text(encoding="utf-8"))
        body = folder.joinpath(f"{program}.so").read_bytes()
    except OSError as exc:
        raise CyxError(
            Code.UNAVAILABLE, f"the {program} program is not in this installation: {exc}; install cyxwiz again"
        ) from exc
    expected, got = manifest[program]["binary_sha256"], hashlib.sha256(body).hexdigest()
    if got != expected:
        raise CyxError(
            Code.UNAVAILABLE,
            f"{program}.so has SHA-256 {got}, its manifest says {expected}; install cyxwiz again, or run make programs",
        )
    return body


def local_id(program: Program) -> Pubkey:
    """The id of `program` on a local network: SHA-256 of its name in this project. Elsewhere ids are settings."""
    return Pubkey(hashlib.sha256(f"cyxwiz program {program}".encode()).digest())

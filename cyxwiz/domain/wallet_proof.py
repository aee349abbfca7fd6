"""What a wallet signs so that its owner signs in by it, or links it: a text that no chain takes for a transaction.

Both sides write it themselves: central, which gave out the nonce, and whoever signs, who signs no text of central's.
"""

from __future__ import annotations

import re
from enum import StrEnum

from cyxwiz.domain.errors import conflict

_NONCE = re.compile(r"[0-9a-f.]{1,200}")


class Purpose(StrEnum):
    LOGIN = "login"
    LINK = "link"


_SAID = {Purpose.LOGIN: "Sign in to CyxWiz.", Purpose.LINK: "Link this wallet to my CyxWiz user."}


def proof_message(purpose: Purpose, wallet: str, platform: str, nonce: str) -> str:
    """`platform` is the platform's public key. Raises CONFLICT for what is no nonce."""
    if not _NONCE.fullmatch(nonce):
        raise conflict("This is no nonce for a wallet to sign; nothing was signed")
    return f"{_SAID[purpose]}\nWallet: {wallet}\nPlatform: {platform}\nNonce: {nonce}"

"""The receipt of a job as a file that anybody can check: how it is written down, and what must hold in it.

A receipt is one JSON object. `signature` is over the canonical JSON of all the rest, by the platform's Ed25519 key.
`digests` has the SHA-256 of every other field's canonical JSON, so that a check can name the field that was changed.
`proof` is what the nodes themselves signed about the run (`domain/proof_document.py`); it is null where they signed
nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from cyxwiz.domain.errors import CyxError, invalid
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.domain.payment import fee_of
from cyxwiz.domain.proof_document import Verified, check_proof

VERSION = 1
ALGORITHM = "ed25519"
SIGNATURE, DIGESTS = "signature", "digests"
AMOUNTS = ("amount", "paid", "platform_fee", "node_reward", "refunded")
ENDED = ("completed", "refunded", "failed")
Json = dict[str, Any]


def canonical(value: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8. A float that is a whole number is written as one, so that a program which does
    not tell the two apart gives the same bytes."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "surrogatepass"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in cast("Sequence[Any]", value)]
    return value


def digest_of(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def sealed(document: Mapping[str, Any], public_key: str, sign: Callable[[bytes], bytes]) -> Json:
    """The document with its digests and the signature over all of it."""
    whole = {**document, DIGESTS: {name: digest_of(value) for name, value in document.items()}}
    signature = {"algorithm": ALGORITHM, "public_key": public_key, "value": sign(canonical(whole)).hex()}
    return {**whole, SIGNATURE: signature}


def check(
    document: Mapping[str, Any],
    verified: Verified,
    *,
    key: str = "",
    files: Mapping[str, str] | None = None,
    weights: str | None = None,
) -> None:
    """Raises INVALID for the first thing that is wrong, with the name of its field.

    Args:
        verified: of (public key, signature, message).
        key: the platform's public key in hex, as it was pinned; "" takes the one that the receipt names.
        files: SHA-256 in hex of the result's files that are here, by name; None leaves the files unchecked.
        weights: digest of the weights in the result's file that is here; None leaves them unchecked.
    """
    try:
        _check_signature(document, verified, key)
        _check_money(document)
        _check_proof(document, verified)
        for file in document["files"] if files is not None else ():
            have = (files or {}).get(file["name"])
            if have != file["sha256"]:
                said = "is not here" if have is None else f"has the SHA-256 {have}"
                raise _wrong("files", f"{file['name']} {said}; the receipt says {file['sha256']}")
        if weights is not None and document["proof"] is not None:
            _check_weights(document["proof"]["links"], weights)
    except CyxError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        shown = f"it lacks {error}" if isinstance(error, KeyError) else f"it can't be read: {str(error)[:200]}"
        raise invalid(f"This is no receipt of version {VERSION}: {shown}") from None


def _check_signature(document: Mapping[str, Any], verified: Verified, key: str) -> None:
    given = document[SIGNATURE]
    if more := sorted(set(given) - {"algorithm", "public_key", "value"}):
        raise _wrong("signature", f"it has {', '.join(more)}, which nobody signed")
    if given["algorithm"] != ALGORITHM:
        raise _wrong("signature", f"its algorithm is {given['algorithm']!r}, not {ALGORITHM}")
    if key and given["public_key"].lower() != key.lower():
        raise _wrong("signature", f"it is by the key {given['public_key']}, not by the one that was pinned, {key}")
    rest = {name: value for name, value in document.items() if name != SIGNATURE}
    public, value = bytes.fromhex(given["public_key"]), bytes.fromhex(given["value"])
    if verified(public, value, canonical(rest)):
        _check_digests(rest)
        return
    _check_digests(rest)
    raise _wrong("signature", "it does not match what is signed")


def _check_digests(rest: Mapping[str, Any]) -> None:
    digests = rest[DIGESTS]
    for name in sorted((set(rest) | set(digests)) - {DIGESTS}):
        if name not in rest:
            raise _wrong(name, "it was taken out after the receipt was signed")
        if name not in digests:
            raise _wrong(name, "it was added after the receipt was signed")
        if digests[name] != digest_of(rest[name]):
            raise _wrong(name, "it was changed after the receipt was signed")


def _check_money(document: Mapping[str, Any]) -> None:
    if document["version"] != VERSION:
        raise _wrong("version", f"{document['version']!r} is not known here, only {VERSION}")
    payments = document["payments"]
    for at, payment in enumerate(payments):
        _check_payment(f"payments[{at}]", payment)
    if document["settled"] != all(payment["status"] in ENDED for payment in payments):
        raise _wrong("settled", "it does not agree with the payments")
    if not document["settled"]:
        raise _wrong("settled", "the money was still moving when this was written: fetch the receipt again")
    for name in AMOUNTS:
        units = document[f"{name}_units"]
        if units != sum(payment[f"{name}_units"] for payment in payments):
            raise _wrong(f"{name}_units", "it is not the sum of the payments")
    for name in ("price", *AMOUNTS):
        if document[name] != format_cyxwiz(document[f"{name}_units"]):
            raise _wrong(name, f"it is {document[name]!r}, and {name}_units is {document[f'{name}_units']}")
    if document["charged"] != (document["paid_units"] > 0):
        raise _wrong("charged", "it does not agree with paid_units")


def _check_proof(document: Mapping[str, Any], verified: Verified) -> None:
    proof = document["proof"]
    if proof is None:
        return
    if (proof["job_id"], proof["seed"]) != (document["job_id"], document["seed"]):
        raise _wrong("proof", "it is of another job")
    key = proof["node_public_key"]
    if proof["statement"] is not None and document["node_public_key"] != key:
        raise _wrong("node_public_key", f"it is {document['node_public_key']}, and the result is signed by {key}")
    check_proof(proof, verified, {file["name"]: file["sha256"] for file in document["files"]})


def _check_weights(links: Sequence[Mapping[str, Any]], weights: str) -> None:
    """The file may be what its node signed, and not what it computed."""
    if links and links[-1]["kind"] == "result" and links[-1]["weights"] != weights:
        raise _wrong("files", "the weights are not those that the chain of the run came to")


def _check_payment(where: str, payment: Mapping[str, Any]) -> None:
    amount, paid, refunded = (payment[f"{name}_units"] for name in ("amount", "paid", "refunded"))
    fee, reward, bps = payment["platform_fee_units"], payment["node_reward_units"], payment["fee_bps"]
    numbers = (amount, paid, refunded, fee, reward, bps)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _wrong(where, "its amounts must be whole numbers from 0")
    if payment["status"] in ("completed", "refunded") and paid + refunded != amount:
        raise _wrong(f"{where}.refunded_units", f"{paid} paid and {refunded} refunded are not the {amount} locked")
    if payment["status"] == "failed" and (paid or refunded):
        raise _wrong(f"{where}.status", "what was never locked can't be paid or refunded")
    if paid + refunded > amount:
        raise _wrong(f"{where}.paid_units", f"{paid} paid and {refunded} refunded are more than the {amount} locked")
    if fee != fee_of(paid, bps):
        raise _wrong(f"{where}.platform_fee_units", f"floor({paid} x {bps} / 10000) is {fee_of(paid, bps)}, not {fee}")
    if reward != paid - fee:
        raise _wrong(f"{where}.node_reward_units", f"{paid} less the fee of {fee} is {paid - fee}, not {reward}")


def _wrong(field: str, message: str) -> CyxError:
    return invalid(f"{field}: {message}", field=field)

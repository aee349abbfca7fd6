"""Key files: their modes, what is refused, and that no secret is shown."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path

import pytest
from solders.keypair import Keypair

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.ledger.keys import Key, load_key, load_or_make_key, save_key


def test_a_key_comes_back_from_its_file_which_only_its_owner_reads(tmp_path: Path) -> None:
    key, path = Key.new(), tmp_path / "id.json"
    save_key(key, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = load_key(path)
    assert again == key
    assert again.sign(b"text").verify(key.pubkey, b"text")
    assert Keypair.from_json(path.read_text()).pubkey() == key.pubkey  # as other tools read it
    assert [each.name for each in tmp_path.iterdir()] == ["id.json"]


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "id.json"
    first = load_or_make_key(path)
    with pytest.raises(CyxError) as caught:
        save_key(Key.new(), path)
    assert caught.value.code is Code.CONFLICT
    assert load_or_make_key(path) == first
    assert [each.name for each in tmp_path.iterdir()] == ["id.json"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o777])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "id.json"
    save_key(Key.new(), path)
    path.chmod(mode)
    with pytest.raises(CyxError, match="chmod 600") as caught:
        load_key(path)
    assert caught.value.code is Code.FORBIDDEN


GOOD = list(bytes(Keypair.from_seed(bytes(range(32)))))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[" * 4000,
        b"[1, 2, 3]",
        json.dumps(GOOD[:63]).encode(),
        json.dumps([*GOOD, 1]).encode(),
        json.dumps([*GOOD[:63], 256]).encode(),
        json.dumps([*GOOD[:63], -1]).encode(),
        json.dumps([*GOOD[:63], True]).encode(),
        json.dumps([*GOOD[:63], 1.0]).encode(),
        json.dumps([*GOOD[:63], "7"]).encode(),
        json.dumps([*GOOD[:63], GOOD[63] ^ 1]).encode(),
        json.dumps(GOOD).encode() + b" " * 5000,
    ],
)
def test_rubbish_is_refused_without_being_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "id.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CyxError) as caught:
        load_key(path)
    assert caught.value.code is Code.INVALID
    assert str(path) in caught.value.message
    assert str(GOOD[:3])[1:-1] not in caught.value.message
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_what_is_no_file_is_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "id.json"
    make(path)  # type: ignore[operator]
    if path.exists():
        path.chmod(0o700)
    with pytest.raises(CyxError) as caught:
        load_key(path)
    assert caught.value.code is Code.INVALID


def test_a_secret_is_not_shown() -> None:
    key = Key.new()
    secret = str(Keypair.from_bytes(key.secret()))
    shown = f"{key} {key!r} {[key]} {vars(Key)!r}"
    assert str(key.pubkey) in shown
    assert secret not in shown
    assert repr(key.secret()) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)

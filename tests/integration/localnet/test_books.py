"""One database, one book: a central that is started with another ledger than its money is in says so and ends."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cyxwiz.app.money import LOCALNET, open_ledger
from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Config, ConfigError
from cyxwiz.domain.ids import UserId, new_id
from cyxwiz.ledger.book import GENESIS
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.store.memory import MemoryStore

ALICE = UserId(new_id())


class Place:
    """A data directory and its database, opened by one central after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore(SystemClock(), LocalBus())

    async def start(self, backend: str, *, local: bool, look: bool = True) -> str:
        """The ledger that a central takes; with `look` money moves there, as it does when a user first looks."""
        config = Config.model_validate({"ledger": {"backend": backend}})
        async with AsyncExitStack() as stack:
            ledger = await open_ledger(stack, config, self.store, SystemClock(), self.folder, local=local)
            if ledger is None:
                return "none"
            if look:
                assert await ledger.balance(ledger.client_account(ALICE)) > 0
            return ledger.info.backend


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(("local", "expected"), [(True, "localnet"), (False, "credits")])
async def test_auto_stays_with_the_book_that_the_money_is_in(place: Place, local: bool, expected: str) -> None:
    assert await place.start("auto", local=local) == expected
    assert await place.start("auto", local=not local) == expected
    assert await place.start("none", local=local) == "none", "nothing is charged, and nothing is lost"
    assert await place.start("auto", local=local) == expected


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ("localnet", "credits", 'ledger.backend = "credits", and the money .* is on the chain with genesis'),
        ("credits", "localnet", r"There is no chain in .*localnet, and the money .* is in central's own books"),
    ],
)
async def test_another_ledger_is_refused_before_it_touches_anything(
    place: Place, first: str, then: str, said: str
) -> None:
    await place.start(first, local=True)
    with pytest.raises(ConfigError, match=said):
        await place.start(then, local=True)
    assert (place.folder / LOCALNET).exists() == (first == "localnet")
    assert await place.start(first, local=True) == first


async def test_a_database_without_its_chain_is_refused_and_goes_on_with_it(place: Place, tmp_path: Path) -> None:
    """A restored backup that lacks the chain's folder; then one of another chain; then its own."""
    await place.start("localnet", local=True)
    kept = tmp_path / "kept"
    (place.folder / LOCALNET).rename(kept)
    with pytest.raises(ConfigError, match=r"There is no chain in .*the folder localnet of a backup"):
        await place.start("auto", local=True)
    assert not (place.folder / LOCALNET).exists()
    other = Place(tmp_path / "other")
    other.folder.mkdir()
    await other.start("localnet", local=True)
    shutil.copytree(other.folder / LOCALNET, place.folder / LOCALNET)
    with pytest.raises(ConfigError, match=r"The chain in .* has genesis .* is on the chain with genesis"):
        await place.start("auto", local=True)
    shutil.rmtree(place.folder / LOCALNET)
    kept.rename(place.folder / LOCALNET)
    assert await place.start("auto", local=True) == "localnet"


async def test_a_chain_that_is_older_than_the_database_is_refused(place: Place) -> None:
    await place.start("localnet", local=True, look=False)
    log = place.folder / LOCALNET / "chain.log"
    before = log.read_bytes()
    await place.start("localnet", local=True)
    after = log.read_bytes()
    log.write_bytes(before)
    with pytest.raises(ConfigError, match=r"is older than the database, which has transaction .* restore both"):
        await place.start("localnet", local=True)
    log.write_bytes(after)
    assert await place.start("localnet", local=True) == "localnet"


async def test_as_long_as_nothing_moved_the_ledger_may_change(place: Place) -> None:
    assert await place.start("credits", local=False, look=False) == "credits"
    assert await place.start("localnet", local=False, look=False) == "localnet"
    assert await place.start("credits", local=False) == "credits"
    with pytest.raises(ConfigError):
        await place.start("localnet", local=False)


async def test_a_database_of_before_is_known_by_its_references(place: Place) -> None:
    await place.start("credits", local=True)
    await place.store.write(lambda tx: tx.drop_setting(GENESIS))
    assert await place.start("auto", local=True) == "credits"
    with pytest.raises(ConfigError, match="in central's own books"):
        await place.start("localnet", local=True)

"""Accounts over a store in memory, by a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Auth
from cyxwiz.domain.account import Principal, Role, User
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import UserId, new_id
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.secrets import Secrets
from cyxwiz.store.memory import MemoryStore

START = datetime(2030, 1, 1, tzinfo=UTC)
SECRET = "a secret of more than thirty-two bytes"
ROOT = "another secret of more than thirty-two bytes"


class HandClock:
    """Stands still until it is moved. Password hashes run on threads, which virtual time does not know."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class World:
    """Accounts over a store in memory, with a user of each role."""

    def __init__(self, **settings: Any) -> None:
        self.clock = HandClock()
        self.store = MemoryStore(self.clock, LocalBus())
        self.auth = Auth(argon2_memory_kib=8, argon2_time_cost=1, jwt_secret=SECRET, p2p_secret=ROOT, **settings)
        self.secrets = Secrets(SECRET, ROOT, "admin", "custody")
        self.accounts = self.again()

    def again(self) -> Accounts:
        """Another replica on the same store."""
        return Accounts(self.store, self.clock, self.auth, self.secrets)

    async def user(self, name: str = "ada", role: Role = Role.USER, password: str = "correct horse") -> User:
        admin = Principal(UserId(new_id()), "root", Role.ADMIN)
        return await self.accounts.create_user(admin, name, password, role)

    async def actor(self, name: str = "ada", role: Role = Role.USER) -> Principal:
        user = await self.user(name, role, password="")
        return Principal(user.id, user.name, user.role)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.store.aclose()


@pytest.fixture
async def open_world() -> AsyncIterator[World]:
    made = World(mode="open")
    yield made
    await made.store.aclose()


async def refusal(coro: Any, code: Code = Code.UNAUTHENTICATED) -> str:
    with pytest.raises(CyxError) as caught:
        await coro
    assert caught.value.code is code
    return caught.value.message

"""A gang's members as elastic agents of torch: they meet by a store that is kept for them, and end together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch._C._distributed_c10d import TCPStore

from cyxwiz.compute.gang.elastic import Member
from cyxwiz.compute.gang.meeting import is_loss
from cyxwiz.compute.orders import Orders
from cyxwiz.ports.executor import Asked, Gang, Report


class Kept:
    """Keys and values of one group; who asks for what is not there yet is answered once it is."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._waiting: list[tuple[str, int, Orders]] = []
        self._lock = threading.Lock()

    def member(self, rank: int, world: int, orders: Orders) -> Member:
        def send(report: Report) -> None:
            assert isinstance(report, Asked)
            with self._lock:
                self._take(report, orders)

        return Member("job-1", Gang(rank, world, "ddp"), send, orders)

    def _take(self, asked: Asked, orders: Orders) -> None:
        if asked.kind == "set":
            self._values[asked.key] = asked.value
        elif asked.kind == "add":
            self._values[asked.key] = str(int(self._values.get(asked.key, b"0")) + int(asked.value)).encode()
        self._waiting.append((asked.key, asked.id, orders))
        for each in [each for each in self._waiting if each[0] in self._values]:
            self._waiting.remove(each)
            each[2].answers.put(each[1], self._values[each[0]])


def test_members_get_their_ranks_and_end_together() -> None:
    kept, world = Kept(), 3
    members = [kept.member(rank, world, Orders()) for rank in range(world)]
    with ThreadPoolExecutor(world) as pool:
        list(pool.map(Member.join, members))
        for rank, each in enumerate(members):
            assert (each.environment["RANK"], each.environment["GROUP_RANK"]) == (str(rank), str(rank))
            assert (each.environment["WORLD_SIZE"], each.environment["LOCAL_WORLD_SIZE"]) == ("3", "1")
            assert each.environment["TORCHELASTIC_RUN_ID"] == "job-1"
        assert len({(each.environment["MASTER_ADDR"], each.environment["MASTER_PORT"]) for each in members}) == 1
        early = [pool.submit(each.leave) for each in members[:2]]
        assert not any(each.done() for each in early)
        members[2].leave()
        for each in early:
            each.result(timeout=10)


@pytest.mark.parametrize("order", ["cancel", "preempt"])
def test_who_is_told_to_stop_waits_for_nobody(order: str, capfd: pytest.CaptureFixture[str]) -> None:
    kept, orders = Kept(), [Orders(), Orders()]
    members = [kept.member(rank, 2, each) for rank, each in enumerate(orders)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Member.join, members))
        ends = pool.submit(members[0].leave)
        orders[0].give(order)
        ends.result(timeout=10)
        members[1].leave()  # it is the last one
    alone = Kept().member(1, 2, orders[0])
    with pytest.raises(InterruptedError, match="told to stop"):
        alone.join()
    assert capfd.readouterr().err == ""


def test_a_store_that_went_with_the_first_member_is_a_loss() -> None:
    """What a script's own process group asks; the exceptions are torch's."""
    second = timedelta(seconds=1)
    server = TCPStore("127.0.0.1", 0, is_master=True, timeout=second)
    client = TCPStore("127.0.0.1", server.port, is_master=False, timeout=second)
    said: list[str] = []
    for _ in range(2):  # nobody sets it; nobody is there any more
        with pytest.raises(RuntimeError) as error:
            client.get("never")
        said.append(f"{error.typename}: {error.value}")
        server = None
    assert all(map(is_loss, said)), said
    assert not is_loss("RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)")

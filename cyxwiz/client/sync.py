"""The client for programs without asyncio: the same methods, which wait for their answer.

Promised: every public method of `Client` is here under its name, with its arguments; `watch` is a plain iterator; a
program may use one `SyncClient` from several threads. The calls run on one background thread, which ends with `close`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from cyxwiz.client.client import Client, JobHandle

T = TypeVar("T")


class _Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="cyxwiz-client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupt of this thread ends the call too
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class _Waiting:
    """Wraps an object of the asynchronous API: its coroutines are waited for, its streams are iterators."""

    def __init__(self, inner: Any, loop: _Loop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._inner, name)
        return _wrapped(value, self._loop) if callable(value) else value

    def __dir__(self) -> list[str]:
        return [name for name in dir(self._inner) if not name.startswith("_")]


def _wrapped(act: Callable[..., Any], loop: _Loop) -> Callable[..., Any]:
    @functools.wraps(act)
    def call(*args: Any, **kwargs: Any) -> Any:
        answer = act(*args, **kwargs)
        if inspect.iscoroutine(answer):
            return loop.wait(answer)
        if hasattr(answer, "__anext__"):
            return _iterate(answer, loop)
        return SyncJobHandle(answer, loop) if isinstance(answer, JobHandle) else answer

    return call


def _iterate(stream: Any, loop: _Loop) -> Iterator[Any]:
    async def following() -> Any:
        return await anext(stream, _END)

    try:
        while (value := loop.wait(following())) is not _END:
            yield value
    finally:
        loop.wait(stream.aclose())


_END = object()


class SyncJobHandle(_Waiting):
    """`JobHandle`, waited for."""


class SyncClient(_Waiting):
    """`Client`, waited for. Takes the same arguments; close it, or use it in a `with` statement."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        inner = Client(*args, **kwargs)
        super().__init__(inner, _Loop())
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.wait(self._inner.close())
            self._loop.close()

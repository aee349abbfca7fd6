"""A request of a person's program: who, about what, with which arguments."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cyxwiz.domain.account import NO_CREDENTIALS, Principal
from cyxwiz.domain.errors import Code, CyxError, forbidden
from cyxwiz.services.validation import first_problem

M = TypeVar("M", bound=BaseModel)
S = TypeVar("S")
R = TypeVar("R")


class Args(BaseModel):
    """Arguments are checked strictly and by name: an unknown one is INVALID, not ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Nothing(Args):
    pass


class Paging(Args):
    page: int = Field(1, ge=1, le=1_000_000)
    limit: int = Field(20, ge=1, le=100)

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.limit


@dataclass(frozen=True, slots=True)
class Call:
    """One request: who, about what, with which arguments."""

    actor: Principal | None
    id: str = ""
    args: Mapping[str, Any] | None = None
    bearer: str = ""
    idempotency_key: str = ""
    strict: bool = False  # whether arguments must have their types already, as JSON has and a query string has not

    @property
    def caller(self) -> Principal:
        if self.actor is None:
            raise CyxError(Code.UNAUTHENTICATED, NO_CREDENTIALS)
        if self.actor.node_id is not None:
            # A node's principal has its owner's id: it must not act for its owner, nor draw tickets in that name.
            raise forbidden("This is a node's token; it opens the node's own stream and blobs, nothing else")
        return self.actor

    def read(self, model: type[M]) -> M:
        try:
            return model.model_validate(dict(self.args or {}), strict=self.strict or None)
        except ValidationError as error:
            raise first_problem(error, "body", model) from None


def takes_nothing(act: Callable[[S, Call], Coroutine[Any, Any, R]]) -> Callable[[S, Call], Coroutine[Any, Any, R]]:
    """For a method without arguments: it refuses any, and does nothing then."""

    @wraps(act)
    async def checked(self: S, call: Call) -> R:
        call.read(Nothing)
        return await act(self, call)

    return checked

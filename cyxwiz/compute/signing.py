"""What a node signs of its runs: each link of a proof, and what it says of a result."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from cyxwiz.compute.hardware import cpu
from cyxwiz.compute.hardware.machine import Machine
from cyxwiz.compute.identity import Identity
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.ids import Token
from cyxwiz.domain.job import check_result_names
from cyxwiz.domain.proof import MAX_STATEMENT, Statement, environment_digest, signed_link, signed_result
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.executor import Linked


@dataclass(slots=True)
class Signer:
    """Signs for one lease. It keeps the last link, which the result's statement names."""

    identity: Identity
    assign: pb.Assign
    data: str = ""  # the digest of its data set, where no chain has one; empty: it has none, or none is known
    _last: Linked | None = field(default=None)

    @property
    def _token(self) -> str:
        return str(Token(self.assign.token.epoch, self.assign.token.counter))

    def link(self, link: Linked) -> pb.Link:
        self._last = link
        signature = self.identity.key.sign(signed_link(self.assign.job_id, self._token, link.link))
        return pb.Link(
            kind=link.kind,
            step=link.step,
            loss=link.loss,
            weights=link.weights,
            link=link.link,
            data=link.data,
            environment=link.environment,
            signature=signature,
        )

    def sign(self, finished: pb.Finished, metrics: Mapping[str, float]) -> None:
        """Adds the statement and its signature to a result that is about to be reported.

        Raises:
            CyxError: INVALID for a result of so many files that central would take no statement of them, and for names
                that it would not take.
        """
        check_result_names([artefact.name for artefact in finished.artefacts])
        environment = self._last.environment if self._last is not None else _environment(self.data)
        statement = Statement(
            job_id=self.assign.job_id,
            token=self._token,
            files={artefact.name: artefact.sha256 for artefact in finished.artefacts},
            metrics=metrics,
            head=self._last.link if self._last is not None else "",
            seed=self.assign.seed,
            environment=environment_digest(environment),
        ).encode()
        if len(statement) > MAX_STATEMENT:
            count = f"{len(finished.artefacts)} files and {len(metrics)} figures"
            size = f"a statement of {len(statement)} bytes, and at most {MAX_STATEMENT} are taken"
            raise invalid(f"The result's {count} make {size}: pack files into one, or give them shorter names.")
        finished.statement, finished.environment = statement, environment
        finished.signature = self.identity.key.sign(signed_result(statement))


def _environment(data: str) -> str:
    """What the node gives a run that makes no chain, such as a script, as JSON with sorted keys. The digest of its data
    is in it, which a chain begins with."""
    machine = Machine()
    torch = machine.torch()
    facts = {
        "python": platform.python_version(),
        "torch": torch.version if torch is not None else "",
        "machine": cpu.model(machine, []),
    }
    if data:
        facts["data"] = data
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))

"""The part of the `Api` that is about stakes."""

from __future__ import annotations

from pydantic import Field

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.domain.stake import Contest, StakeStep
from cyxwiz.services import views
from cyxwiz.services.call import Args, Call, takes_nothing
from cyxwiz.services.money_api import Amount
from cyxwiz.services.stakes import StakeSeen, Staking
from cyxwiz.services.views import Json


class WithdrawStake(Args):
    amount: str | None = Field(None, max_length=64, description="left out: all")


class Judgment(Args):
    upheld: bool = Field(description="true: the slash stands; false: the stake goes back")


class StakeApi:
    """`staking` is None where no ledger is configured: every method then is UNSUPPORTED."""

    staking: Staking | None

    @takes_nothing
    async def get_stake(self, call: Call) -> Json:
        return stake(await self._stakes.show(call.caller, call.id))

    async def add_stake(self, call: Call) -> Json:
        units = parse_cyxwiz(call.read(Amount).amount)
        return stake(await self._stakes.add(call.caller, call.id, units, call.idempotency_key))

    async def withdraw_stake(self, call: Call) -> Json:
        amount = call.read(WithdrawStake).amount
        units = None if amount is None else parse_cyxwiz(amount)
        return stake(await self._stakes.withdraw(call.caller, call.id, units, call.idempotency_key))

    @takes_nothing
    async def appeal_slash(self, call: Call) -> Json:
        return stake(await self._stakes.appeal(call.caller, call.id, call.idempotency_key))

    @takes_nothing
    async def claim_rewards(self, call: Call) -> Json:
        return stake(await self._stakes.claim(call.caller, call.id, call.idempotency_key))

    async def fund_rewards(self, call: Call) -> Json:
        units = parse_cyxwiz(call.read(Amount).amount)
        vault, reference = await self._stakes.fund(call.caller, units, call.idempotency_key)
        return {
            **views.money("amount", units),
            "rewards_account": vault.account,
            **views.money("rewards_vault", vault.units),
            "reference": reference,
        }

    async def judge_slash(self, call: Call) -> Json:
        upheld = call.read(Judgment).upheld
        return stake(await self._stakes.judge(call.caller, call.id, upheld=upheld, key=call.idempotency_key))

    @property
    def _stakes(self) -> Staking:
        if self.staking is None:
            raise CyxError(
                Code.UNSUPPORTED, 'Nothing is staked here: ledger.backend is "none"; an operator sets another one'
            )
        return self.staking


def stake(item: StakeSeen) -> Json:
    found, rules = item.stake, item.rules
    contested = found.contest is not Contest.NONE
    return {
        "node_id": item.node.id,
        "owner_id": item.node.owner_id,
        "account": found.account,
        **views.money("stake", found.active_units),
        **views.money("cooling", found.cooling_units),
        "cooling_until": views.instant(found.cooling_until if found.cooling_units else None),
        **views.money("withdrawable", found.free_units(item.now)),
        "contest": str(found.contest),
        **views.money("contested", found.contested_units),
        "contested_until": views.instant(found.contested_until if contested else None),
        "evidence_hash": found.evidence or None,
        "evidence": item.evidence or None,
        **views.money("slashed", found.slashed_units),
        **views.money("rewards_due", found.due_units(rules, item.now)),
        "rewards_percent": rules.rate_bps / 100,
        "rewards_account": item.vault.account,
        **views.money("rewards_vault", item.vault.units),
        **views.money("required", item.required_units),
        **views.money("minimum", rules.minimum_units),
        "cooldown_seconds": rules.cooldown.total_seconds(),
        "appeal_seconds": rules.appeal.total_seconds(),
        "steps": [step(each) for each in item.steps],
        "did": None if item.did is None else step(item.did),
    }


def step(item: StakeStep) -> Json:
    return {
        "id": item.id,
        "kind": str(item.kind),
        "status": str(item.state),
        **views.money("amount", item.units),
        "evidence_hash": item.evidence or None,
        "by": item.by,
        "reference": item.reference or None,
        "error": item.error or None,
        "at": views.instant(item.created_at),
    }

"""Stakes on Solana, by the NodeStaking program.

Each node's stake has a key of its own, which the platform derives from its custody secret and the node's id: a wallet
that a node names is only its word, and the stake of somebody else must not vouch for it, nor be slashed for it. The
tokens come out of the prepaid account of the node's owner in the transaction that stakes them, and go back there.

A transaction is recorded before it is sent, under the step's id: what is found confirmed under it is not sent again.
The platform's key slashes; the judge's key, where it is configured, judges appeals.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cyxwiz.domain.errors import unsupported
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Movement
from cyxwiz.domain.stake import Contest, RewardsVault, Stake, StakeDone, StakeKind, StakeRules, StakeStep, applied
from cyxwiz.ledger.credit_stakes import FUND
from cyxwiz.ledger.instructions import staking as program
from cyxwiz.ledger.instructions.staking import Config, Staking
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sending import CONFIRMED, Prepared, Send
from cyxwiz.ledger.tokens import memo, transfer, transfer_into
from cyxwiz.ports.clock import Clock

_CONTESTS = {
    program.Contest.NONE: Contest.NONE,
    program.Contest.PENDING: Contest.PENDING,
    program.Contest.APPEALED: Contest.APPEALED,
}


@dataclass(frozen=True, slots=True)
class StakingKeys:
    """Where the staking program is and who acts for the platform in it.

    Args:
        platform: admin and slasher of the config; pays fees and rents.
        judge: decides appeals; None: they are judged elsewhere, or granted by time.
        custody: the secret that the keys of stakes are derived from.
    """

    program: Pubkey
    mint: Pubkey
    platform: Key
    judge: Key | None
    custody: bytes


@dataclass(frozen=True, slots=True)
class Accounts:
    """What of the ledger stakes need: users' keys and balances, the chain's clock, new token accounts."""

    user_key: Callable[[UserId], Key]
    afford: Callable[[str, int], Awaitable[None]]  # raises FUNDS unless so much is there
    chain_time: Callable[[], Awaitable[int]]
    make_account: Callable[[Pubkey], Instruction]


class ChainStakes:
    """See `ports.stakes.Stakes`."""

    def __init__(self, clock: Clock, rpc: Rpc, send: Send, keys: StakingKeys, accounts: Accounts) -> None:
        self._clock = clock
        self._rpc = rpc
        self._send = send
        self._keys = keys
        self._accounts = accounts
        self._config_address = program.config_address(keys.program, keys.platform.pubkey, keys.mint)

    def account(self, node: Node) -> str:
        return str(program.stake_address(self._keys.program, self._config_address, self._key_of(node).pubkey))

    async def rules(self) -> StakeRules:
        return _rules(await self._config())

    async def vault(self) -> RewardsVault:
        config = await self._config()
        return RewardsVault(str(config.rewards), await self._there(config))

    async def _there(self, config: Config) -> int:
        """Units in the rewards vault, which is a token account itself."""
        account = await self._rpc.account(config.rewards)
        return 0 if account is None else int.from_bytes(bytes(account.data)[64:72], "little")

    async def fund(self, user_id: UserId, units: int, key: str) -> str:
        owner, config = self._accounts.user_key(user_id), await self._config()
        ident = str(uuid.uuid5(uuid.UUID(user_id), f"fund {key}"))
        source, vault = str(owner.pubkey), config.rewards

        async def prepare() -> Prepared:
            await self._accounts.afford(source, units)
            steps = [memo(ident), transfer_into(owner.pubkey, vault, self._keys.mint, units)]
            return steps, [self._keys.platform, owner]

        moved = Movement("", FUND, units, source, str(vault), self._clock.now(), payment_id=ident, owner_id=user_id)
        return await self._send.once(moved, prepare)

    async def stake(self, node: Node) -> Stake:
        account = self.account(node)
        found = await self._found(Pubkey.from_string(account))
        return Stake(account) if found is None else _stake(found)

    async def perform(self, node: Node, step: StakeStep) -> StakeDone:
        known = next((move for move in await self._send.resolve(step.id) if move.state == CONFIRMED), None)
        if known is not None:
            lost = known.destination == str(program.rewards_address(self._keys.program, self._config_address))
            return StakeDone(known.reference, known.units, await self.stake(node), lost)
        config = await self._config()
        before = await self.stake(node)
        now = datetime.fromtimestamp(await self._accounts.chain_time(), UTC)
        there = await self._there(config) if step.kind is StakeKind.CLAIM else 0
        after, units = applied(before, step, _rules(config), now, there)
        if step.kind is StakeKind.CLAIM:
            # What was earned between an earlier look at the clock and its claim was left on the key's own account.
            units += await self._rpc.token_balance(self._key_of(node).pubkey)
        staking = Staking(self._keys.program, config, self._key_of(node).pubkey, self._keys.platform.pubkey)
        instructions, signers = await self._instructions(staking, node, step, units)
        lost = after.slashed_units > before.slashed_units
        movement = Movement(
            "",
            step.kind.value,
            units,
            self._source(step, before.account, config),
            self._destination(step, before.account, config, lost=lost),
            self._clock.now(),
            payment_id=step.id,
            owner_id=step.owner_id,
            node_id=node.id,
        )
        instructions = [memo(step.id), *instructions]  # two equal deposits are two transactions
        reference = await self._send.land(movement, instructions, [self._keys.platform, *signers])
        return StakeDone(reference, units, await self.stake(node), lost)

    async def _instructions(
        self, staking: Staking, node: Node, step: StakeStep, units: int
    ) -> tuple[Sequence[Instruction], Sequence[Key]]:
        key, owner = self._key_of(node), self._owner(step)
        match step.kind:
            case StakeKind.ADD:
                await self._accounts.afford(str(owner.pubkey), units)
                opened = await self._found(staking.address) is not None
                steps = [
                    self._accounts.make_account(key.pubkey),
                    transfer(owner.pubkey, key.pubkey, self._keys.mint, units),
                    *([] if opened else [staking.open()]),
                    staking.deposit(units),
                ]
                return steps, [owner, key]
            case StakeKind.COOL:
                return [staking.unstake(units)], [key]
            case StakeKind.WITHDRAW:
                back = transfer(key.pubkey, owner.pubkey, self._keys.mint, units)
                return [self._accounts.make_account(owner.pubkey), staking.withdraw(), back], [key]
            case StakeKind.CLAIM:
                on = transfer(key.pubkey, owner.pubkey, self._keys.mint, units)
                accounts = [self._accounts.make_account(each.pubkey) for each in (key, owner)]
                return [*accounts, staking.claim_rewards(), on], [key]
            case StakeKind.SLASH:
                if staking.config.slasher != self._keys.platform.pubkey:
                    raise unsupported("The staking config names another slasher than the platform's key")
                return [staking.slash(units, bytes.fromhex(step.evidence))], []
            case StakeKind.APPEAL:
                return [staking.appeal()], [key]
            case StakeKind.JUDGE:
                judge = self._keys.judge
                if judge is None or judge.pubkey != staking.config.judge:
                    raise unsupported(
                        "The judge's key is not here: set blockchain.judge_keypair_path to that of the config"
                    )
                return [staking.judge(upheld=step.upheld)], [judge]
            case StakeKind.CONCLUDE:
                return [staking.conclude(self._keys.platform.pubkey)], []

    def _source(self, step: StakeStep, account: str, config: Config) -> str:
        if step.kind is StakeKind.ADD:
            return str(self._owner(step).pubkey)
        return str(config.rewards) if step.kind is StakeKind.CLAIM else account

    def _destination(self, step: StakeStep, account: str, config: Config, *, lost: bool) -> str:
        if step.kind in (StakeKind.WITHDRAW, StakeKind.CLAIM):
            return str(self._owner(step).pubkey)
        return str(config.rewards) if lost else account

    async def _config(self) -> Config:
        account = await self._rpc.account(self._config_address)
        if account is None or account.owner != self._keys.program:
            raise unsupported(
                f"No stakes can be held: {self._config_address} is no config of the staking program "
                f"{self._keys.program}; its admin, the platform's key, has to make one"
            )
        return Config.decode(self._config_address, bytes(account.data))

    async def _found(self, address: Pubkey) -> program.Stake | None:
        account = await self._rpc.account(address)
        if account is None or account.owner != self._keys.program:
            return None
        return program.Stake.decode(address, bytes(account.data))

    def _key_of(self, node: Node) -> Key:
        """The key of a node's stake: HMAC-SHA256 of the node's id under the custody secret."""
        return Key(Keypair.from_seed(hmac.digest(self._keys.custody, b"cyxwiz stake " + node.id.encode(), "sha256")))

    def _owner(self, step: StakeStep) -> Key:
        return self._accounts.user_key(step.owner_id)


def _rules(config: Config) -> StakeRules:
    cooldown, appeal = timedelta(seconds=config.cooldown), timedelta(seconds=config.appeal)
    return StakeRules(config.minimum, cooldown, appeal, config.rate_bps)


def _stake(found: program.Stake) -> Stake:
    return Stake(
        str(found.address),
        active_units=found.active,
        cooling_units=found.cooling,
        cooling_until=datetime.fromtimestamp(found.cooling_until, UTC) if found.cooling_until else None,
        contest=_CONTESTS[found.contest],
        contested_units=found.contested,
        contested_cooling_units=found.contested_cooling,
        contested_until=datetime.fromtimestamp(found.contested_until, UTC) if found.contested_until else None,
        evidence=found.evidence.hex() if any(found.evidence) else "",
        slashed_units=found.slashed,
        rewards_units=found.rewards,
        accrued_at=datetime.fromtimestamp(found.accrued_at, UTC),
    )

"""Money on Solana: an escrow a payment, on any cluster or on the chain within this process.

What the chain holds is the truth. Each step first looks at the escrow, whose address follows from the payment alone,
and sends what is missing: totals are cumulative and an address is made once, so that a step which is repeated after a
crash, or by two centrals, happens once. A transaction is recorded before it is sent.

Users who sign nothing themselves have a key that the platform keeps for them (`custody`): their prepaid balance is the
token account of that key. A node without a wallet is paid to its owner's.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.money import check_amount, format_cyxwiz
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Done, Funding, Movement, Payment, Step, Work, fee_of
from cyxwiz.ledger.chain_stakes import Accounts, ChainStakes, StakingKeys
from cyxwiz.ledger.cluster import Cluster
from cyxwiz.ledger.deployment import Deployment
from cyxwiz.ledger.escrows import allowance, chain_time, ended_by_others, evidence, how_it_ended, in_dispute, job_bytes
from cyxwiz.ledger.grants import Grants
from cyxwiz.ledger.instructions import escrow as program
from cyxwiz.ledger.instructions.escrow import Escrow, Flag, Payout, Terms
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.offers import Offers, differences
from cyxwiz.ledger.payees import mend
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sending import PENDING, Amounts, Record, Send, newest
from cyxwiz.ledger.tokens import make_account
from cyxwiz.ledger.withdrawals import Withdrawals
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Held, LedgerInfo, Offer
from cyxwiz.ports.store import MovementQuery, Store, Tx
from cyxwiz.runtime.sharing import Shared

log = logging.getLogger(__name__)
DISPUTE_SECONDS = 86_400
STRAY, MOST_STRAYS = timedelta(minutes=5), 100  # after which a transaction in doubt has been left alone; in one pass
_NO_ACCOUNT = ("OWNER", "TOKEN_ACCOUNT")  # how the program refuses a token account that is closed, or none any more


class SolanaLedger:
    """See `ports.ledger.Ledger`. `close` is called at the end."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        rpc: Rpc,
        send: Send,
        deployment: Deployment,
        close: Callable[[], Awaitable[None]],
        cluster: Cluster | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rpc = rpc
        self._send = send
        self._at = deployment
        self._close = close
        self._offers = Offers(rpc, deployment.program, deployment.platform)
        self._cluster = cluster  # to be checked first; None: this process made it
        self._checked = False
        self._fee_account = token_account(deployment.platform.pubkey, deployment.mint)
        self._ready = False
        self._opening = Shared(self._open, clock)
        self._greeted: set[str] = set()
        faucet = deployment.faucet
        self._grants = Grants(store, clock, send, deployment.mint, faucet) if faucet is not None else None
        self._custody: dict[str, Key] = {}
        self._kept: set[str] = set()  # the accounts of those keys
        at = deployment
        keys = StakingKeys(at.staking, at.mint, at.platform, at.judge, at.custody)
        self._chain_time = partial(chain_time, rpc, clock)
        accounts = Accounts(self._key_of, self._afford, self._chain_time, self._make_account)
        self._withdrawals = Withdrawals(clock, rpc, send, deployment, accounts)
        self.stakes = ChainStakes(clock, rpc, send, keys, accounts)

    @property
    def info(self) -> LedgerInfo:
        at = self._at
        backend = "localnet" if self._cluster is None else "solana"
        return LedgerInfo(backend, at.network, str(at.platform.pubkey), str(at.mint), str(at.program), at.endpoint)

    def client_account(self, user_id: UserId) -> str:
        return str(self._key_of(user_id).pubkey)

    def node_account(self, node: Node) -> str:
        try:
            return str(Pubkey.from_string(node.wallet_address))
        except ValueError:
            return self.client_account(node.owner_id)

    async def balance(self, account: str) -> int:
        owner = _key(account)
        await self._send.prefetch()  # who looks at a balance is about to lock some
        await self._greet(account)
        return await self._rpc.token_balance(owner)

    async def lamports(self, account: str) -> int | None:
        found = await self._rpc.account(_key(account))
        return found.lamports if found is not None else 0

    def lock_within(self, tx: Tx, payment: Payment) -> Done | Sequence[Movement]:
        """Locks nothing yet: where it can, it signs what will, so that it is recorded with the payment itself."""
        if not self._ready or payment.funding is not Funding.PREPAID:
            return ()
        moved = self._movement(payment, Step.LOCK, Amounts(payment.amount_units))
        return self._send.record(
            tx, moved, [self._create(payment)], [self._at.platform, self._key_of(payment.owner_id)]
        )

    def known(self, tx: Tx, payments: Sequence[Payment]) -> Sequence[Sequence[Movement]]:
        found = tx.movements_of_all([each.id for each in payments])
        return [found[each.id] for each in payments]

    async def check(self) -> None:
        """Raises INVALID or CONFLICT where the settings and the cluster don't fit, UNAVAILABLE when it does not answer
        or the platform can't pay its fees."""
        if self._cluster is not None:
            await self._cluster.check()
            self._checked = True
            await self._cluster.check_payer()

    async def perform(self, payment: Payment, step: Step, work: Work, known: Sequence[Movement] | None = None) -> Done:
        if self._cluster is not None and not self._checked:
            await self._cluster.check()
            self._checked = True
        moves = known if known is not None else await self._moves(payment)
        record = Record(list(moves))
        try:
            done = await self._perform(payment, step, work, record)
        except CyxError:
            await self._send.keep(record)
            raise
        if known is not None:
            return replace(done, ended=tuple(record.ended))
        await self._send.keep(record)
        return done

    async def _perform(self, payment: Payment, step: Step, work: Work, record: Record) -> Done:
        await self._send.clear(record)
        if step is Step.LOCK and newest(record.moves, "lock"):
            return Done(newest(record.moves, "lock"))
        held = await self._escrow(payment, record)
        match step:
            case Step.LOCK:
                return await self._lock(payment, held, record)
            case Step.ASSIGN:
                return await self._assign(payment, held, work, record)
            case Step.PAY:
                return await self._pay(payment, await self._for_its_node(payment, held, work, record), record)
            case Step.SETTLE | Step.REFUND:
                if held is not None and step is Step.SETTLE:
                    held = await self._for_its_node(payment, held, work, record)
                if held is None:
                    return await self._ended(payment, record) or Done("", locked=False)
                return await self._end(payment, held, step, record)

    async def offer(self, payment: Payment) -> Offer:
        await self._prepare(payment)
        terms = self._terms(payment)
        message, last_height = await self._offers.message(terms)
        return Offer(self._offers.shown(terms), message, last_height)

    async def signed(self, payment: Payment, transaction: bytes, offered: bytes, last_height: int) -> Movement:
        signature, raw = await self._offers.complete(self._terms(payment), transaction, offered, last_height)
        move = self._movement(payment, Step.LOCK, Amounts(payment.amount_units))
        return replace(move, reference=str(signature), state=PENDING, raw=raw, last_height=last_height)

    async def check_signed(self, payment: Payment, reference: str) -> None:
        await self._offers.check(self._terms(payment), reference)

    async def held(self, payment: Payment) -> Held | None:
        found = await self._escrow(payment, Record(list(await self._moves(payment))))
        if found is None:
            return None
        return Held(found.amount, found.released, str(found.node) if found.node else "")

    async def grant(self, account: str, units: int, key: str) -> str:
        check_amount(units)
        if self._grants is None:
            raise CyxError(Code.UNSUPPORTED, f"The platform makes no CYXWIZ on a cluster: send some to {account}")
        return await self._grants.give(_key(account), units, key)

    async def withdraw(self, user_id: UserId, to: str, units: int, key: str) -> str:
        return await self._withdrawals.to(user_id, _key(to), units, key)

    async def _afford(self, account: str, units: int) -> None:
        """Raises FUNDS unless so much is there."""
        have = await self.balance(account)
        if have < units:
            said = f"The balance is too low: {format_cyxwiz(have)} CYXWIZ are there, {format_cyxwiz(units)} are needed"
            raise CyxError(Code.FUNDS, said, {"available_units": have, "needed_units": units})

    async def mend(self) -> None:
        late = self._clock.now() - STRAY
        query = MovementQuery(state=PENDING, limit=MOST_STRAYS)
        found = (await self._store.read(lambda tx: tx.movements(query))).items
        for ident in dict.fromkeys(each.payment_id for each in found if each.raw and each.at < late):
            await self._send.resolve(ident)

    async def aclose(self) -> None:
        await self._opening.aclose()
        await self._send.aclose()
        await self._close()

    # steps

    async def _lock(self, payment: Payment, held: Escrow | None, record: Record) -> Done:
        if held is not None:
            self._agreed(payment, held)
            return Done(newest(record.moves, "lock"))
        if payment.funding is Funding.SIGNED:
            if self._cluster is not None:
                await self._cluster.check_it_is_the_one()
            why = next((f": {move.error}" for move in reversed(record.moves) if move.error), " in its time")
            raise CyxError(Code.FUNDS, f"The escrow that its client signed was not made{why}; submit it anew")
        await self._prepare(payment)
        try:
            await self._afford(payment.client, payment.amount_units)
            steps, client = [self._create(payment)], self._key_of(payment.owner_id)
            return Done(await self._land(payment, Step.LOCK, steps, Amounts(payment.amount_units), record, [client]))
        except CyxError as error:
            if error.retryable or not (made := newest(await self._send.resolve(payment.id), "lock")):
                raise
            return Done(made)  # another central was faster

    def _create(self, payment: Payment) -> Instruction:
        return program.create(self._at.program, self._terms(payment), payer=self._at.platform.pubkey)

    async def _assign(self, payment: Payment, held: Escrow | None, work: Work, record: Record) -> Done:
        if held is None:
            return await self._over(payment, record)
        if Flag.STOPPED in held.flags:
            return await self._stopped(payment, held, record)
        node = _key(work.node)
        if held.node == node:
            return Done(newest(record.moves, "assign"), paid_units=held.released)

        def steps(payout: Payout) -> list[Instruction]:
            claims = [payout.claim()] if held.node is not None and held.accrued > held.released else []
            leaves = [program.unassign(self._at.program, held, held.platform)] if held.node is not None else []
            return [*claims, *leaves, self._make_account(node), program.assign(self._at.program, held, node)]

        signature = await self._land_payout(payment, held, Step.ASSIGN, steps, Amounts(), record)
        return Done(signature, paid_units=max(held.released, held.accrued))

    async def _for_its_node(self, payment: Payment, held: Escrow | None, work: Work, record: Record) -> Escrow | None:
        """The escrow with the node that is to be paid: an assignment to another may have landed unknown, and the job
        have come back since."""
        if held is None or not payment.node or held.node == _key(payment.node):
            return held
        if min(payment.earned_units, held.amount) <= max(held.accrued, held.released):
            return held
        await self._assign(payment, held, replace(work, node=payment.node), record)
        return await self._escrow(payment, record)

    async def _pay(self, payment: Payment, held: Escrow | None, record: Record) -> Done:
        if held is None:
            return await self._over(payment, record)
        if held.interval == 0:
            raise conflict(f"Payment {payment.id} is paid out at its end")
        if Flag.STOPPED in held.flags:
            return await self._stopped(payment, held, record)
        total = owed = min(payment.earned_units, held.amount)
        if owed > held.accrued:
            total, _ = await self._attestable(payment, held, owed)
        if total <= held.released and held.accrued <= held.released:
            return Done(newest(record.moves, "pay"), paid_units=held.released)
        total = max(total, held.accrued)
        return Done(await self._claim(payment, held, total, record), paid_units=total)

    async def _claim(self, payment: Payment, held: Escrow, total: int, record: Record) -> str:
        """Pays a stream's node up to `total`, in all."""
        attests = self._attesting(payment, held, total)
        fee = fee_of(total, held.fee_bps) - held.fees
        return await self._land_payout(
            payment, held, Step.PAY, lambda to: [*attests, to.claim()], Amounts(total - held.released, fee), record
        )

    def _attesting(self, payment: Payment, held: Escrow, total: int) -> list[Instruction]:
        """What has a stream earn `total` in all; nothing where it has."""
        if total <= held.accrued:
            return []
        return [program.attest(self._at.program, held, total, evidence(payment))]

    async def _stopped(self, payment: Payment, held: Escrow, record: Record) -> Done:
        """Ends a stream that its client has stopped: it earns nothing any more, and nobody shall work for nothing."""
        return replace(await self._end(payment, held, Step.SETTLE, record), over=True, stopped=True)

    async def _end(self, payment: Payment, held: Escrow, step: Step, record: Record) -> Done:
        total = held.released
        owed = min(payment.earned_units, held.amount) if step is Step.SETTLE else 0
        if held.interval:
            total = max(held.accrued, held.released)
            if owed > total and held.node is not None:
                total, enough = await self._attestable(payment, held, owed)
                if not enough:
                    return Done(await self._claim(payment, held, total, record), paid_units=total, more=True)
        elif held.node is not None:
            total = max(total, owed)

        def steps(payout: Payout) -> list[Instruction]:
            if held.interval:
                return [*self._attesting(payment, held, total), payout.close()]
            return [payout.refund() if held.node is None else payout.settle(total)]

        paid, back = total - held.released, held.amount - total
        fee = fee_of(total, held.fee_bps) - held.fees if held.node else 0
        signature = await self._land_payout(payment, held, step, steps, Amounts(paid, fee, back), record)
        return Done(signature, paid_units=total, refunded_units=back)

    async def _attestable(self, payment: Payment, held: Escrow, owed: int) -> tuple[int, bool]:
        """(what a stream may have earned in all by now, of what is owed; whether no wait makes that more)

        Raises:
            CyxError: UNAVAILABLE when it is less than is owed and grows. No interval earns more than the cap, so that
                much is paid in several parts.
        """
        now = await self._chain_time()
        allowed = held.accrued + allowance(held, now)
        if allowed >= owed or now >= held.deadline or Flag.STOPPED in held.flags:
            return min(allowed, owed), True
        if allowed - held.accrued >= held.cap:
            return allowed, False
        raise CyxError(Code.UNAVAILABLE, f"Payment {payment.id}: the stream's rate does not allow all of it yet")

    # what is there

    async def _escrow(self, payment: Payment, record: Record) -> Escrow | None:
        address = self._address(payment)
        account = await self._rpc.account(address, seen=await self._send.seen(payment.id, record.moves))
        return None if account is None or not account.data else Escrow.decode(address, bytes(account.data))

    def _address(self, payment: Payment) -> Pubkey:
        return program.state_address(self._at.program, _key(payment.client), job_bytes(payment))

    def _agreed(self, payment: Payment, held: Escrow) -> None:
        """Raises CONFLICT unless the escrow is what the payment says."""
        wrong = differences(self._terms(payment), held)
        if wrong:
            raise conflict(f"Payment {payment.id}: the escrow at its address was made with other terms: {wrong[0]}")

    def _terms(self, payment: Payment) -> Terms:
        return Terms(
            client=_key(payment.client),
            job=job_bytes(payment),
            mint=self._at.mint,
            platform=self._at.platform.pubkey,
            arbiter=self._at.arbiter,
            fee_account=self._fee_account,
            amount=payment.amount_units,
            deadline=int(payment.deadline.timestamp()),
            fee_bps=payment.fee_bps,
            window=DISPUTE_SECONDS,
            interval=payment.cap_seconds if payment.streams else 0,
            cap=payment.cap_units if payment.streams else 0,
        )

    async def _moves(self, payment: Payment) -> Sequence[Movement]:
        return await self._store.read(lambda tx: tx.movements_of(payment.id))

    async def _ended(self, payment: Payment, record: Record) -> Done | None:
        """How an escrow ended that is gone; None for one that never was there."""
        if not newest(record.moves, "lock"):
            return None
        if self._cluster is not None:
            await self._cluster.check_it_is_the_one()
        address = self._address(payment)
        vault = program.vault_address(self._at.program, address)
        done = await how_it_ended(self._rpc, payment, record.moves, address, vault)
        if seen := ended_by_others(self._movement(payment, Step.SETTLE, Amounts()), payment, record.moves, done):
            await self._store.write(lambda tx: tx.add_movement(seen))
        return done

    async def _over(self, payment: Payment, record: Record) -> Done:
        """How an escrow ended that was to go on, by its client, its node or the arbiter; CONFLICT for one unknown."""
        if (ended := await self._ended(payment, record)) is None:
            raise conflict(f"Payment {payment.id}: its escrow is gone")
        return replace(ended, over=True)

    async def _land(
        self,
        payment: Payment,
        step: Step,
        steps: Sequence[Instruction],
        amounts: Amounts,
        record: Record,
        signers: Sequence[Key] = (),
    ) -> str:
        movement = self._movement(payment, step, amounts)
        return await self._send.land(movement, steps, [self._at.platform, *signers], record)

    async def _land_payout(
        self,
        payment: Payment,
        held: Escrow,
        step: Step,
        steps: Callable[[Payout], Sequence[Instruction]],
        amounts: Amounts,
        record: Record,
    ) -> str:
        """As `_land`, for steps that pay out."""
        payout = Payout(self._at.program, held, self._at.platform.pubkey)
        try:
            return await self._land(payment, step, steps(payout), amounts, record)
        except CyxError as error:
            if (refused := error.details.get("program_error")) == "FROZEN":
                raise CyxError(Code.UNAVAILABLE, f"Payment {payment.id}: {in_dispute(held)}") from error
            if refused not in _NO_ACCOUNT:
                raise
            made, mended = await mend(self._rpc, self._at.platform.pubkey, payout)
            if not made and mended == payout:
                raise
        return await self._land(payment, step, [*made, *steps(mended)], amounts, record)

    def _movement(self, payment: Payment, step: Step, amounts: Amounts) -> Movement:
        escrow = str(self._address(payment))
        payee = payment.node or payment.client
        return Movement(
            "",
            step.value,
            amounts.units,
            payment.client if step is Step.LOCK else escrow,
            escrow if step in (Step.LOCK, Step.ASSIGN) else payee,
            self._clock.now(),
            payment_id=payment.id,
            job_id=payment.job_id,
            owner_id=payment.owner_id,
            node_id=payment.node_id or "",
            fee_units=amounts.fee,
            back_units=amounts.back,
        )

    # keys and accounts

    def _key_of(self, user_id: UserId) -> Key:
        """The key that the platform keeps for a user: HMAC-SHA256 of the user's id under the custody secret."""
        if (known := self._custody.get(user_id)) is None:
            seed = hmac.digest(self._at.custody, b"cyxwiz custody " + user_id.encode(), "sha256")
            known = self._custody[user_id] = Key(Keypair.from_seed(seed))
            self._kept.add(str(known.pubkey))
        return known

    def _make_account(self, owner: Pubkey) -> Instruction:
        return make_account(self._at.platform.pubkey, owner, self._at.mint)

    async def _prepare(self, payment: Payment) -> None:
        """Sees that fees can be paid. Makes the account for the platform's part with the first payment."""
        if self._cluster is not None:
            await self._cluster.check_payer()
        if not self._ready:
            await self._opening(payment)

    async def _open(self, payments: Sequence[Payment]) -> Sequence[None]:
        if await self._rpc.account(self._fee_account) is None:
            target, first = str(self._fee_account), payments[0].id
            made = Movement("", "account", 0, "", target, self._clock.now(), payment_id=first)
            await self._send.land(made, [self._make_account(self._at.platform.pubkey)], [self._at.platform])
        self._ready = True
        return [None] * len(payments)

    async def _greet(self, account: str) -> None:
        """Gives a user's account, kept here, what everybody starts with, once. Who can't get it any more, as the supply
        is at its end, goes without: nothing else may fail for it."""
        if not self._at.welcome_units or self._grants is None or account in self._greeted or account not in self._kept:
            return
        key = f"welcome {account}"
        if not await self._grants.given(key):
            try:
                await self.grant(account, self._at.welcome_units, key)
            except CyxError as error:
                if error.code is not Code.INVALID:
                    raise
                log.warning("account %s does not get its welcome: %s", account, error.message)
        self._greeted.add(account)


def _key(account: str) -> Pubkey:
    try:
        return Pubkey.from_string(account)
    except ValueError:
        raise invalid(f"{account[:60]!r} is no address on the chain: expected 32 bytes in base58") from None

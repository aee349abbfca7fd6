"""Money on Solana: an escrow a payment, on any cluster or on the chain within this process.

What the chain holds is the truth. Each step first looks at the escrow, whose address follows from the payment alone,
and sends what is missing: totals are cumulative and an address is made once, so that a step which is repeated after a
crash, or by two centrals, happens once. A transaction is recorded before it is sent.

Users who sign nothing themselves have a key that the platform keeps for them (`custody`): their prepaid balance is the
token account of that key. A node without a wallet is paid to its owner's.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cyxwiz.domain.errors import Code, CyxError, conflict, invalid
from cyxwiz.domain.ids import UserId
from cyxwiz.domain.money import MAX_UNITS, format_cyxwiz
from cyxwiz.domain.node import Node
from cyxwiz.domain.payment import Done, Movement, Payment, Step, Work, fee_of
from cyxwiz.ledger.instructions import escrow as program
from cyxwiz.ledger.instructions.escrow import Escrow, Payout, Terms
from cyxwiz.ledger.instructions.values import token_account
from cyxwiz.ledger.keys import Key
from cyxwiz.ledger.rpc import Rpc
from cyxwiz.ledger.sending import CONFIRMED, Send
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Held, LedgerInfo
from cyxwiz.ports.store import MovementQuery, Store, Tx

DISPUTE_SECONDS = 86_400
STEPS = frozenset(str(step) for step in Step)
MOST_MOVES = 100_000  # of a payment
CLOCK = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
ASSOCIATED_TOKEN_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
TOKEN_PROGRAM = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
SYSTEM_PROGRAM = Pubkey.default()
Faucet = Callable[[Pubkey, int], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the platform's programs and keys are on a cluster.

    Args:
        platform: pays fees and rents, and speaks for the platform in escrows.
        custody: the secret that users' prepaid keys are derived from.
        faucet: gives new tokens to an owner, where the platform may make some.
    """

    network: str
    endpoint: str
    program: Pubkey
    mint: Pubkey
    platform: Key
    arbiter: Pubkey
    custody: bytes
    faucet: Faucet | None = None
    welcome_units: int = 0


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
    ) -> None:
        self._store = store
        self._clock = clock
        self._rpc = rpc
        self._send = send
        self._at = deployment
        self._close = close
        self._fee_account = token_account(deployment.platform.pubkey, deployment.mint)
        self._ready = False
        self._greeted: set[str] = set()
        self._custody: dict[str, Key] = {}

    @property
    def info(self) -> LedgerInfo:
        at = self._at
        backend = "localnet" if at.network == "localnet" else "solana"
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
        units = await self._rpc.token_balance(owner)
        if not units and await self._greet(account):
            units = await self._rpc.token_balance(owner)
        return units

    def lock_within(self, tx: Tx, payment: Payment) -> Done | None:
        return None

    async def perform(self, payment: Payment, step: Step, work: Work) -> Done:
        await self._send.resolve(payment.id)
        held = await self._escrow(payment)
        match step:
            case Step.LOCK:
                return await self._lock(payment, held)
            case Step.ASSIGN:
                return await self._assign(payment, held, work)
            case Step.PAY:
                return await self._pay(payment, await self._for_its_node(payment, held, work))
            case Step.SETTLE:
                return await self._end(payment, await self._for_its_node(payment, held, work), step)
            case Step.REFUND:
                return await self._end(payment, held, step)

    async def held(self, payment: Payment) -> Held | None:
        found = await self._escrow(payment)
        if found is None:
            return None
        return Held(found.amount, found.released, str(found.node) if found.node else "")

    async def grant(self, account: str, units: int, key: str) -> str:
        if not 0 < units <= MAX_UNITS:
            raise invalid("amount: must be more than 0 CYXWIZ and less than 2^63 units", field="amount")
        if self._at.faucet is None:
            raise CyxError(Code.UNSUPPORTED, f"CYXWIZ are not made on {self._at.network}: buy or transfer some")
        kept = f"grant:{key}"
        movement = Movement(kept, "grant", units, str(self._at.mint), account, self._clock.now(), state="pending")
        fresh = await self._store.write(lambda tx: tx.add_movement(movement))
        if not fresh:
            known = await self._store.read(lambda tx: tx.movement(kept))
            if known is not None and known.state == "confirmed":
                return known.error
        signature = await self._at.faucet(_key(account), units)
        # The reference is the key, so that it is given once; the signature is kept beside it.
        done = replace(movement, state="confirmed", confirmed_at=self._clock.now(), error=signature)
        await self._store.write(lambda tx: tx.save_movement(done))
        return signature

    async def references(self, payment: Payment) -> Sequence[str]:
        return [movement.reference for movement in await self._moves(payment)]

    async def aclose(self) -> None:
        await self._close()

    # steps

    async def _lock(self, payment: Payment, held: Escrow | None) -> Done:
        if held is not None:
            self._agreed(payment, held)
            return Done(await self._reference(payment, "lock"))
        ended = await self._ended(payment)
        if ended is not None:
            return Done(await self._reference(payment, "lock"))
        await self._prepare(payment)
        client = self._key_of(payment.owner_id)
        have = await self.balance(payment.client)
        if have < payment.amount_units:
            raise CyxError(
                Code.FUNDS,
                f"The balance is too low: {format_cyxwiz(have)} CYXWIZ are there, "
                f"{format_cyxwiz(payment.amount_units)} are needed",
                {"available_units": have, "needed_units": payment.amount_units},
            )
        make = program.create(self._at.program, self._terms(payment), payer=self._at.platform.pubkey)
        signature = await self._land(payment, Step.LOCK, [make], payment.amount_units, 0, [client])
        return Done(signature)

    async def _assign(self, payment: Payment, held: Escrow | None, work: Work) -> Done:
        if held is None:
            raise conflict(f"Payment {payment.id}: its escrow is gone")
        node = _key(work.node)
        if held.node == node:
            return Done(await self._reference(payment, "assign"), paid_units=held.released)
        steps: list[Instruction] = []
        if held.node is not None:
            if held.accrued > held.released:
                steps.append(self._payout(held).claim())
            steps.append(program.unassign(self._at.program, held, held.platform))
        steps += [self._make_account(node), program.assign(self._at.program, held, node)]
        return Done(await self._land(payment, Step.ASSIGN, steps, 0, 0), paid_units=max(held.released, held.accrued))

    async def _for_its_node(self, payment: Payment, held: Escrow | None, work: Work) -> Escrow | None:
        """The escrow with the node that is to be paid: an assignment to another may have landed unknown, and the job
        have come back since."""
        if held is None or not payment.node or held.node == _key(payment.node):
            return held
        if min(payment.earned_units, held.amount) <= max(held.accrued, held.released):
            return held
        await self._assign(payment, held, replace(work, node=payment.node))
        return await self._escrow(payment)

    async def _pay(self, payment: Payment, held: Escrow | None) -> Done:
        if held is None:
            raise conflict(f"Payment {payment.id}: its escrow is gone")
        if held.interval == 0:
            raise conflict(f"Payment {payment.id} is paid out at its end")
        total = owed = min(payment.earned_units, held.amount)
        if owed > held.accrued:
            total = min(owed, await self._attestable(payment, held, owed))
        if total <= held.released and held.accrued <= held.released:
            return Done(await self._reference(payment, "pay"), paid_units=held.released)
        steps: list[Instruction] = []
        if total > held.accrued:
            steps.append(program.attest(self._at.program, held, total, self._evidence(payment)))
        total = max(total, held.accrued)
        steps.append(self._payout(held).claim())
        fee = fee_of(total, held.fee_bps) - held.fees
        signature = await self._land(payment, Step.PAY, steps, total - held.released, fee)
        return Done(signature, paid_units=total)

    async def _end(self, payment: Payment, held: Escrow | None, step: Step) -> Done:
        if held is None:
            return await self._ended(payment) or Done("", locked=False)
        total = held.released
        steps: list[Instruction] = []
        if held.interval:
            total = max(held.accrued, held.released)
            owed = min(payment.earned_units, held.amount) if step is Step.SETTLE else total
            if owed > total and held.node is not None:
                total = min(owed, await self._attestable(payment, held, owed))
                if total > held.accrued:
                    steps.append(program.attest(self._at.program, held, total, self._evidence(payment)))
            steps.append(self._payout(held).close())
        elif held.node is None:
            steps.append(self._payout(held).refund())
        else:
            total = max(total, min(payment.earned_units, held.amount) if step is Step.SETTLE else 0)
            steps.append(self._payout(held).settle(total))
        paid, back = total - held.released, held.amount - total
        fee = fee_of(total, held.fee_bps) - held.fees if held.node else 0
        signature = await self._land(payment, step, steps, paid, fee)
        return Done(signature, paid_units=total, refunded_units=back)

    async def _attestable(self, payment: Payment, held: Escrow, owed: int) -> int:
        """What a stream may have earned in all by now, once no wait makes more of what is owed possible.

        Raises:
            CyxError: UNAVAILABLE when it is less than is owed and grows. One interval earns no more than the cap, so
                that a long one is paid out in several parts.
        """
        now = await self._chain_time()
        allowed = held.accrued + _allowance(held, now)
        if allowed >= owed or now >= held.deadline:
            return allowed
        if now - held.accrued_at >= held.interval:
            steps = [program.attest(self._at.program, held, allowed, self._evidence(payment))]
            steps.append(self._payout(held).claim())
            fee = fee_of(allowed, held.fee_bps) - held.fees
            await self._land(payment, Step.PAY, steps, allowed - held.released, fee)
        raise CyxError(Code.UNAVAILABLE, f"Payment {payment.id}: the stream's rate does not allow all of it yet")

    async def _chain_time(self) -> int:
        """Unix seconds of the cluster's clock; the program reads the same."""
        account = await self._rpc.account(CLOCK)
        if account is None:
            return int(self._clock.now().timestamp())
        return int.from_bytes(bytes(account.data)[32:40], "little", signed=True)

    # what is there

    async def _escrow(self, payment: Payment) -> Escrow | None:
        address = program.state_address(self._at.program, _key(payment.client), _job(payment))
        account = await self._rpc.account(address, seen=await self._send.seen(payment.id))
        return None if account is None or not account.data else Escrow.decode(address, bytes(account.data))

    def _agreed(self, payment: Payment, held: Escrow) -> None:
        """Raises CONFLICT unless the escrow is what the payment says."""
        terms = self._terms(payment)
        same = (
            held.amount == terms.amount
            and held.platform == terms.platform
            and held.mint == terms.mint
            and held.fee_account == terms.fee_account
            and held.fee_bps == terms.fee_bps
            and (held.interval, held.cap) == (terms.interval, terms.cap)
            and held.deadline >= terms.deadline
        )
        if not same:
            raise conflict(f"Payment {payment.id}: the escrow at its address was made with other terms")

    def _terms(self, payment: Payment) -> Terms:
        return Terms(
            client=_key(payment.client),
            job=_job(payment),
            mint=self._at.mint,
            platform=self._at.platform.pubkey,
            arbiter=self._at.arbiter,
            fee_account=self._fee_account,
            amount=payment.amount_units,
            deadline=int(payment.deadline.timestamp()),
            fee_bps=payment.fee_bps,
            window=DISPUTE_SECONDS,
            interval=payment.rate_seconds if payment.streams else 0,
            cap=payment.cap_units if payment.streams else 0,
        )

    def _payout(self, held: Escrow) -> Payout:
        return Payout(self._at.program, held, self._at.platform.pubkey)

    def _evidence(self, payment: Payment) -> bytes:
        """What the platform attests by: a digest of the job, the lease's number and how far it was."""
        return hashlib.sha256(f"{payment.job_id}:{payment.attempt}:{payment.progress!r}".encode()).digest()

    async def _moves(self, payment: Payment) -> list[Movement]:
        """What has happened, oldest first."""
        query = MovementQuery(payment_id=payment.id, state=CONFIRMED, kinds=STEPS, limit=MOST_MOVES)
        page = await self._store.read(lambda tx: tx.movements(query))
        return list(reversed(page.items))

    async def _reference(self, payment: Payment, kind: str) -> str:
        return next((move.reference for move in reversed(await self._moves(payment)) if move.kind == kind), "")

    async def _ended(self, payment: Payment) -> Done | None:
        """How the escrow ended, by the transactions that were recorded before they were sent; None if it never was."""
        moves = await self._moves(payment)
        if not any(move.kind == "lock" for move in moves):
            return None
        total = sum(move.units for move in moves if move.kind in ("pay", "settle", "refund"))
        last = next((move.reference for move in reversed(moves) if move.kind in ("settle", "refund")), "")
        return Done(last, paid_units=total, refunded_units=payment.amount_units - total)

    async def _land(
        self,
        payment: Payment,
        step: Step,
        steps: Sequence[Instruction],
        units: int,
        fee: int,
        signers: Sequence[Key] = (),
    ) -> str:
        payee = payment.node or payment.client
        movement = Movement(
            "",
            step.value,
            units,
            payment.client if step is Step.LOCK else payment.id,
            payment.id if step in (Step.LOCK, Step.ASSIGN) else payee,
            self._clock.now(),
            payment_id=payment.id,
            job_id=payment.job_id,
            owner_id=payment.owner_id,
            node_id=payment.node_id or "",
            fee_units=fee,
        )
        return await self._send.land(movement, steps, [self._at.platform, *signers])

    # keys and accounts

    def _key_of(self, user_id: UserId) -> Key:
        """The key that the platform keeps for a user: HMAC-SHA256 of the user's id under the custody secret."""
        if (known := self._custody.get(user_id)) is None:
            seed = hmac.digest(self._at.custody, b"cyxwiz custody " + user_id.encode(), "sha256")
            known = self._custody[user_id] = Key(Keypair.from_seed(seed))
        return known

    def _make_account(self, owner: Pubkey) -> Instruction:
        """The associated token account's CreateIdempotent."""
        mint, payer = self._at.mint, self._at.platform.pubkey
        accounts = [
            AccountMeta(payer, True, True),
            AccountMeta(token_account(owner, mint), False, True),
            AccountMeta(owner, False, False),
            AccountMeta(mint, False, False),
            AccountMeta(SYSTEM_PROGRAM, False, False),
            AccountMeta(TOKEN_PROGRAM, False, False),
        ]
        return Instruction(ASSOCIATED_TOKEN_PROGRAM, b"\x01", accounts)

    async def _prepare(self, payment: Payment) -> None:
        """Makes the account that fees go to, once, with the first payment."""
        if self._ready:
            return
        if await self._rpc.account(self._fee_account) is None:
            target = str(self._fee_account)
            made = Movement("", "account", 0, "", target, self._clock.now(), payment_id=payment.id)
            await self._send.land(made, [self._make_account(self._at.platform.pubkey)], [self._at.platform])
        self._ready = True

    async def _greet(self, account: str) -> bool:
        """Gives a user's account what everybody starts with, once; whether it did now."""
        if not self._at.welcome_units or self._at.faucet is None or account in self._greeted:
            return False
        self._greeted.add(account)
        known = await self._store.read(lambda tx: tx.movement(f"grant:welcome {account}"))
        if known is not None and known.state == "confirmed":
            return False
        await self.grant(account, self._at.welcome_units, f"welcome {account}")
        return True


def _allowance(held: Escrow, now: int) -> int:
    """What a stream may earn at once at a Unix second: as the program computes it."""
    span = min(max(0, min(now, held.deadline) - held.accrued_at), held.interval)
    return min(held.cap * span // held.interval, held.amount - held.accrued)


def _key(account: str) -> Pubkey:
    try:
        return Pubkey.from_string(account)
    except ValueError:
        raise invalid(f"{account[:60]!r} is no address on the chain: expected 32 bytes in base58") from None


def _job(payment: Payment) -> bytes:
    """The 16 bytes that name the escrow beside its client."""
    return uuid.UUID(payment.id).bytes

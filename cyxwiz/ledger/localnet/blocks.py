"""The methods about the cluster, its blocks and what is on it in all.

A local chain has one node, which nobody votes for: its identity, its leader and who has what is not in circulation are
the faucet.
"""

from __future__ import annotations

from typing import Any

from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.token import ID as TOKEN_PROGRAM

from cyxwiz import __version__
from cyxwiz.ledger.localnet import views
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.genesis import MINT_SIZE
from cyxwiz.ledger.localnet.history import Details
from cyxwiz.ledger.localnet.jsonrpc import (
    BLOCK_CLEANED_UP,
    BLOCK_NOT_AVAILABLE,
    UNSUPPORTED_VERSION,
    RpcFault,
    invalid_params,
)
from cyxwiz.ledger.localnet.params import Config, Params, pubkey
from cyxwiz.ledger.localnet.timeline import SLOT_MS, SLOTS_PER_EPOCH
from cyxwiz.ledger.localnet.vm import Tokens
from cyxwiz.ledger.programs import Program, local_id

Json = dict[str, Any]
MAX_BLOCKS = 500_000
MAX_LEADERS = 5000
MAX_ADDRESSES = 1000
LARGEST = 20
SAMPLE_SLOTS = 150  # one minute
MAX_SAMPLES = 720
DETAILS = ("full", "accounts", "signatures", "none")


class Blocks:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def _value(self, value: Any) -> Json:
        return {"context": {"apiVersion": __version__, "slot": self._chain.slot()}, "value": value}

    def _config(self, params: Params, index: int, *, alone: str = "commitment") -> Config:
        return params.config(index, self._chain.slot(), alone=alone)

    @property
    def _faucet(self) -> Pubkey:
        return self._chain.genesis.keys.faucet.pubkey

    def _is_mint(self, address: Pubkey) -> bool:
        account = self._chain.account(address)
        return account is not None and account.owner == TOKEN_PROGRAM and len(account.data) == MINT_SIZE

    # -- the cluster

    async def do_getHealth(self, values: list[Any]) -> str:
        Params(values, 0)
        return "ok"

    async def do_getVersion(self, values: list[Any]) -> Json:
        Params(values, 0)
        return {"solana-core": __version__, "feature-set": 0, "cyxwiz-localnet": __version__}

    async def do_getGenesisHash(self, values: list[Any]) -> str:
        Params(values, 0)
        return str(self._chain.genesis.hash)

    async def do_getIdentity(self, values: list[Any]) -> Json:
        Params(values, 0)
        return {"identity": str(self._faucet)}

    async def do_getClusterNodes(self, values: list[Any]) -> list[Json]:
        Params(values, 0)
        return []  # none that another could reach

    async def do_getVoteAccounts(self, values: list[Any]) -> Json:
        self._config(Params(values, 1), 0)
        return {"current": [], "delinquent": []}

    async def do_getSlotLeader(self, values: list[Any]) -> str:
        self._config(Params(values, 1), 0)
        return str(self._faucet)

    async def do_getSlotLeaders(self, values: list[Any]) -> list[str]:
        params = Params(values, 2)
        params.integer(0, "slot")
        return [str(self._faucet)] * params.integer(1, "limit", MAX_LEADERS)

    async def do_getInflationRate(self, values: list[Any]) -> Json:
        Params(values, 0)
        return {"total": 0.0, "validator": 0.0, "foundation": 0.0, "epoch": self._chain.slot() // SLOTS_PER_EPOCH}

    async def do_getInflationGovernor(self, values: list[Any]) -> Json:
        self._config(Params(values, 1), 0)
        return {"initial": 0.0, "terminal": 0.0, "taper": 0.0, "foundation": 0.0, "foundationTerm": 0.0}

    async def do_getInflationReward(self, values: list[Any]) -> list[None]:
        params = Params(values, 2)
        self._config(params, 1)
        return [None for each in params.array(0, "addresses", MAX_ADDRESSES) if pubkey(each)]

    # -- slots and blocks

    async def do_getSlot(self, values: list[Any]) -> int:
        self._config(Params(values, 1), 0)
        return self._chain.slot()

    do_getBlockHeight = do_getSlot  # each slot has one block

    async def do_getTransactionCount(self, values: list[Any]) -> int:
        self._config(Params(values, 1), 0)
        return len(self._chain.history)

    async def do_getFirstAvailableBlock(self, values: list[Any]) -> int:
        Params(values, 0)
        return self._chain.history.first_slot

    do_minimumLedgerSlot = do_getFirstAvailableBlock

    async def do_getEpochInfo(self, values: list[Any]) -> Json:
        self._config(Params(values, 1), 0)
        slot = self._chain.slot()
        return {
            "absoluteSlot": slot,
            "blockHeight": slot,
            "epoch": slot // SLOTS_PER_EPOCH,
            "slotIndex": slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": len(self._chain.history),
        }

    async def do_getEpochSchedule(self, values: list[Any]) -> Json:
        Params(values, 0)
        return {
            "slotsPerEpoch": SLOTS_PER_EPOCH,
            "leaderScheduleSlotOffset": SLOTS_PER_EPOCH,
            "warmup": False,
            "firstNormalEpoch": 0,
            "firstNormalSlot": 0,
        }

    async def do_getRecentPerformanceSamples(self, values: list[Any]) -> list[Json]:
        """Of whole minutes of the chain's time, the latest first."""
        params = Params(values, 1)
        limit = params.integer(0, "limit", MAX_SAMPLES) if values else MAX_SAMPLES
        ended = self._chain.slot() // SAMPLE_SLOTS
        counts: dict[int, int] = {}
        for each in self._chain.history.latest():
            counts[each.slot // SAMPLE_SLOTS] = counts.get(each.slot // SAMPLE_SLOTS, 0) + 1
        return [
            {
                "slot": (minute + 1) * SAMPLE_SLOTS - 1,
                "numTransactions": counts.get(minute, 0),
                "numNonVoteTransactions": counts.get(minute, 0),
                "numSlots": SAMPLE_SLOTS,
                "samplePeriodSecs": SAMPLE_SLOTS * SLOT_MS // 1000,
            }
            for minute in range(ended - 1, max(-1, ended - 1 - limit), -1)
        ]

    async def do_getBlockTime(self, values: list[Any]) -> int:
        slot = Params(values, 1).integer(0, "slot")
        if slot > self._chain.slot():
            raise RpcFault(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
        return self._chain.timeline.unix_of_slot(slot)

    async def do_getBlockCommitment(self, values: list[Any]) -> Json:
        Params(values, 1).integer(0, "slot")
        return {"commitment": None, "totalStake": 0}

    async def do_getBlocks(self, values: list[Any]) -> list[int]:
        params = Params(values, 3)
        self._config(params, 2)
        first = params.integer(0, "first slot")
        last = self._chain.slot() - 1  # of the present one's the block is being made
        if len(values) > 1 and values[1] is not None:
            last = min(last, params.integer(1, "last slot"))
        if last - first >= MAX_BLOCKS:
            raise invalid_params(f"Slot range too large; max {MAX_BLOCKS}")
        return list(range(max(first, self._chain.history.first_slot), last + 1))

    async def do_getBlocksWithLimit(self, values: list[Any]) -> list[int]:
        params = Params(values, 3)
        self._config(params, 2)
        first = max(params.integer(0, "first slot"), self._chain.history.first_slot)
        return list(range(first, min(first + params.integer(1, "limit", MAX_BLOCKS), self._chain.slot())))

    async def do_getBlock(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        config, slot = self._config(params, 1, alone="encoding"), params.integer(0, "slot")
        encoding = config.choice("encoding", views.TRANSACTION_ENCODINGS, "json")
        wanted = config.choice("transactionDetails", DETAILS, "full")
        understood = config.integer("maxSupportedTransactionVersion", None, 255)
        config.flag("rewards")
        if slot >= self._chain.slot():
            raise RpcFault(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
        history = self._chain.history
        if slot < history.first_slot:
            said = f"Block {slot} cleaned up, does not exist on node. First available block: {history.first_slot}"
            raise RpcFault(BLOCK_CLEANED_UP, said)
        found = [each for each in history.latest() if each.slot == slot]
        for each in found:
            await self._chain.status(each.transaction.signatures[0])
        shown: Json = {
            "blockhash": str(self._chain.timeline.blockhash(slot)),
            "previousBlockhash": str(self._chain.timeline.blockhash(max(0, slot - 1))),
            "parentSlot": max(0, slot - 1),
            "blockHeight": slot,
            "blockTime": self._chain.timeline.unix_of_slot(slot),
            "rewards": [],
        }
        if wanted == "signatures":
            shown["signatures"] = [str(each.transaction.signatures[0]) for each in found]
        elif wanted != "none":
            encoding = encoding if wanted == "full" else "jsonParsed"
            shown["transactions"] = [_landed(self._chain, each, encoding, understood, wanted) for each in found]
        return shown

    # -- what is on it in all

    async def do_getSupply(self, values: list[Any]) -> Json:
        """Of lamports; those of the programs' own accounts are made by the genesis and do not count."""
        without = self._config(Params(values, 1), 0).flag("excludeNonCirculatingAccountsList")
        owners = [SYSTEM_PROGRAM, TOKEN_PROGRAM, *map(local_id, Program)]
        total = sum(account.lamports for owner in owners for _, account in self._chain.owned_by(owner))
        kept = self._chain.account(self._faucet)
        aside = kept.lamports if kept is not None else 0
        return self._value(
            {
                "total": total,
                "circulating": total - aside,
                "nonCirculating": aside,
                "nonCirculatingAccounts": [] if without else [str(self._faucet)],
            }
        )

    async def do_getLargestAccounts(self, values: list[Any]) -> Json:
        config = self._config(Params(values, 1), 0)
        only = config.choice("filter", ("circulating", "nonCirculating"), "")
        config.flag("sortResults")
        found = [(account.lamports, address) for address, account in self._chain.owned_by(SYSTEM_PROGRAM)]
        if only:
            found = [each for each in found if (each[1] == self._faucet) == (only == "nonCirculating")]
        found.sort(key=lambda each: (-each[0], bytes(each[1])))
        return self._value([{"lamports": units, "address": str(address)} for units, address in found[:LARGEST]])

    async def do_getTokenLargestAccounts(self, values: list[Any]) -> Json:
        params = Params(values, 2)
        self._config(params, 1)
        mint = params.pubkey(0)
        if not self._is_mint(mint):
            raise invalid_params(f"there is no mint at {mint}")
        decimals = views.decimals_of(self._chain, mint)
        held = [(Tokens.of(account), address) for address, account in self._chain.owned_by(TOKEN_PROGRAM)]
        found = [(tokens.amount, address) for tokens, address in held if tokens is not None and tokens.mint == mint]
        found.sort(key=lambda each: (-each[0], bytes(each[1])))
        return self._value(
            [{"address": str(address), **views.amount_view(units, decimals)} for units, address in found[:LARGEST]]
        )


def landed_view(chain: Chain, details: Details, encoding: str, understood: int | None) -> Json:
    """A transaction with what became of it. Raises RpcFault for a version that the caller does not understand."""
    version = views.version_of(details.transaction)
    if version != "legacy" and understood is None:
        raise RpcFault(
            UNSUPPORTED_VERSION,
            f"Transaction version ({version}) is not supported by the requesting client. Please try the request "
            'again with the following configuration parameter: "maxSupportedTransactionVersion": 0',
        )
    return {
        "transaction": views.transaction_view(details, encoding),
        "meta": views.meta_view(chain, details, encoding),
        **({} if understood is None else {"version": version}),
    }


def _landed(chain: Chain, details: Details, encoding: str, understood: int | None, wanted: str) -> Json:
    shown = landed_view(chain, details, encoding, understood)
    if wanted == "accounts":
        transaction = shown["transaction"]
        keys = transaction["message"]["accountKeys"]
        shown["meta"] = views.short_meta_view(chain, details)
        shown["transaction"] = {"signatures": transaction["signatures"], "accountKeys": keys}
    return shown

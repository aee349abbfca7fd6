"""The shapes of the documents that REST answers with, as JSON Schema: for the OpenAPI document and for its tests."""

from __future__ import annotations

from typing import Any

from cyxwiz import wire

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
UUID: Schema = {"type": "string", "format": "uuid"}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
FLAG: Schema = {"type": "boolean"}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
MONEY: Schema = {"type": "string", "description": "CYXWIZ, as a decimal"}
NUMBERS: Schema = {"type": "object", "additionalProperties": {"type": "number"}}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
ANYTHING: Schema = {"type": "object"}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def record(optional: tuple[str, ...] = (), **fields: Schema) -> Schema:
    """An object whose fields are all there, save the optional ones; later versions may add some."""
    return {"type": "object", "properties": fields, "required": [name for name in fields if name not in optional]}


def page(plural: str, name: str) -> Schema:
    return record(
        ("total_capped",),
        **{plural: many(ref(name))},
        total=WHOLE,
        page=WHOLE,
        limit=WHOLE,
        total_pages=WHOLE,
        next_cursor=maybe(TEXT),
        total_capped=FLAG,
    )


def _amounts(*names: str) -> dict[str, Schema]:
    return {key: schema for name in names for key, schema in ((name, MONEY), (f"{name}_units", WHOLE))}


def _sums(name: str) -> dict[str, Schema]:
    return {f"{name}_sol": maybe(NUMBER), f"{name}_cyxwiz": MONEY, f"{name}_usd": maybe(NUMBER)}


_PAYMENT_STATUS = one_of("pending", "locked", "streaming", "completed", "refunded", "failed")
_FILE = record(name=TEXT, sha256=SHA256, size=WHOLE)
_STATUS = one_of("pending", "assigned", "running", "paused", "completed", "failed", "cancelled")
_QUOTE = record(
    total=MONEY, total_units=WHOLE, lines=many(record(what=TEXT, amount=TEXT, amount_units={"type": "integer"}))
)
_VERDICT = record(node_id=UUID, name=TEXT, feasible=FLAG, reason=maybe(TEXT), score=NUMBER, terms=NUMBERS, quote=_QUOTE)
_PROOF: dict[str, Schema] = {
    "chain_head": {**maybe(SHA256), "description": "of the proof's chain; null: the run made none"},
    "signature": {**maybe(TEXT), "description": "of the statement, by the node's Ed25519 key; base64"},
    "node_public_key": {**maybe(TEXT), "description": "hex"},
    "statement": {**maybe(TEXT), "description": "what the node signed, JSON; see the guide to verification"},
    "verification": maybe(
        record(
            mode=one_of("spot", "quorum"),
            outcome=one_of("open", "verified", "trusted", "unverified", "rejected"),
            reason=TEXT,
            checks=many(record(node_id=maybe(TEXT), verdict=TEXT, figures=NUMBERS)),
        )
    ),
}

DOCUMENTS: dict[str, Schema] = {
    "Error": record(
        error=record(code=one_of(*wire.CODES), message=TEXT, details=ANYTHING, retryable=FLAG, request_id=TEXT)
    ),
    "Health": {
        **record(status=one_of("ok"), version=TEXT, service=one_of("cyxwiz-central-server")),
        "additionalProperties": False,
    },
    "Ready": record(status=one_of("ready")),
    "Stats": record(
        total_nodes=WHOLE,
        online_nodes=WHOLE,
        total_jobs=WHOLE,
        pending_jobs=WHOLE,
        running_jobs=WHOLE,
        completed_jobs=WHOLE,
        failed_jobs=WHOLE,
        total_compute_hours=NUMBER,
    ),
    "Job": record(
        id=UUID,
        name=TEXT,
        status=_STATUS,
        phase=maybe(one_of("awaiting_payment", "queued", "starting", "training", "uploading", "verifying")),
        job_type=one_of("training", "inference", "evaluation", "preprocessing"),
        priority=one_of("low", "normal", "high", "critical"),
        progress=SHARE,
        current_epoch=WHOLE,
        epochs=WHOLE,
        batch_size=WHOLE,
        seed={"type": "integer"},
        metrics=NUMBERS,
        user_id=UUID,
        assigned_node_id=maybe(UUID),
        attempts={**WHOLE, "description": "leases issued"},
        retry_count={**WHOLE, "description": "failures charged to the job"},
        node_losses=WHOLE,
        intent={**one_of("run", "pause", "move"), "description": "what is wanted of it while a node has it"},
        reason={**TEXT, "description": "why it waits"},
        error=maybe(record(code=TEXT, message=TEXT)),
        dataset_uri=TEXT,
        hyperparameters=TEXTS,
        resources=ANYTHING,
        strategy=maybe(one_of("ddp", "fsdp", "local_sgd", "diloco")),
        labels=TEXTS,
        network={**FLAG, "description": "whether its script asks for the network"},
        reservation_id=maybe(UUID),
        requirements={**maybe(TEXT), "description": "sha256 of the lock file of its script's packages"},
        weights={**maybe(ANYTHING), "description": "of the model that is evaluated or asked"},
        estimated_cost=MONEY,
        estimated_cost_units=WHOLE,
        actual_cost=MONEY,
        actual_cost_units=WHOLE,
        compute_seconds=NUMBER,
        created_at=TIME,
        started_at=maybe(TIME),
        first_step_at=maybe(TIME),
        completed_at=maybe(TIME),
    ),
    "Jobs": page("jobs", "Job"),
    "Plan": record(
        feasible_nodes=WHOLE,
        nodes=many(_VERDICT),
        expected_seconds=NUMBER,
        units_per_second=NUMBER,
        estimated_cost=MONEY,
        estimated_cost_units=WHOLE,
    ),
    "Explanation": record(
        job_id=UUID,
        status=_STATUS,
        reason=TEXT,
        jobs_ahead=WHOLE,
        not_before=maybe(TIME),
        nodes=many(_VERDICT),
        leases=many(
            record(
                token=TEXT,
                node_id=UUID,
                state=TEXT,
                issued_at=TIME,
                ended_at=maybe(TIME),
                end_reason=TEXT,
                rank=WHOLE,
                world=WHOLE,
            )
        ),
    ),
    "JobMetrics": record(job_id=UUID, metrics=many(ref("MetricPoint")), next_after=WHOLE),
    "MetricPoint": record(
        offset=WHOLE, at=TIME, attempt=WHOLE, epoch=WHOLE, progress=SHARE, epoch_ended=FLAG, metrics=NUMBERS
    ),
    "JobCheckpoints": record(
        job_id=UUID,
        checkpoints=many(
            record(
                number=WHOLE,
                at=TIME,
                node_id=UUID,
                epoch=WHOLE,
                batch=WHOLE,
                step=WHOLE,
                progress=SHARE,
                sha256=TEXT,
                size=WHOLE,
                kept=FLAG,
            )
        ),
    ),
    "JobLogs": record(job_id=UUID, logs=many(ref("LogLine")), next_after=WHOLE),
    "LogLine": record(offset=WHOLE, at=TIME, level=TEXT, source=TEXT, message=TEXT),
    "Result": record(
        (),
        job_id=UUID,
        node_id=UUID,
        model_weights_uri=TEXT,
        model_weights_hash=TEXT,
        model_size=WHOLE,
        final_metrics=NUMBERS,
        total_compute_seconds=NUMBER,
        files=many(_FILE),
        accepted_at=TIME,
        **_PROOF,
    ),
    "Proof": record(
        (),
        job_id=UUID,
        job_type=TEXT,
        definition=record(model=TEXT, dataset_uri=TEXT, hyperparameters=TEXTS, epochs=WHOLE, batch_size=WHOLE),
        definition_sha256=SHA256,
        data_sha256=maybe(SHA256),
        genesis=maybe(SHA256),
        seed={"type": "integer"},
        links=many(
            record(
                number=WHOLE,
                kind=one_of("checkpoint", "result"),
                step=WHOLE,
                loss=NUMBER,
                weights=SHA256,
                link=SHA256,
                node_id=UUID,
                token=TEXT,
                environment=ANYTHING,
                signature=TEXT,
                at=TIME,
            )
        ),
        environment=maybe(ANYTHING),
        **_PROOF,
    ),
    "Receipt": record(
        (),
        version=WHOLE,
        job_id=UUID,
        name=TEXT,
        status=_STATUS,
        node_id=maybe(UUID),
        node_name=maybe(TEXT),
        node_public_key=maybe(SHA256),
        node_version=maybe(TEXT),
        gpu=FLAG,
        compute_seconds=NUMBER,
        dataset_uri=TEXT,
        dataset_sha256=maybe(SHA256),
        definition_sha256=maybe(SHA256),
        code_sha256=maybe(SHA256),
        code_files=TEXTS,
        requirements_sha256=maybe(SHA256),
        weights_sha256=maybe(SHA256),
        hyperparameters=TEXTS,
        epochs=WHOLE,
        batch_size=WHOLE,
        seed={"type": "integer"},
        model_weights_hash=maybe(TEXT),
        files=many(_FILE),
        made_dataset_uri={**maybe(TEXT), "description": "of a preprocessing job: what a later job's dataset names"},
        checkpoints=many(record(number=WHOLE, step=WHOLE, sha256=SHA256, node_id=UUID)),
        proof={**maybe(ANYTHING), "description": "what the node signed about its run; null where it signed nothing"},
        price=MONEY,
        price_units=WHOLE,
        charged=FLAG,
        settled={**FLAG, "description": "whether the money has come to its end; only then the receipt is final"},
        note=TEXT,
        ledger=maybe(ref("LedgerInfo")),
        **_amounts("amount", "paid", "platform_fee", "node_reward", "refunded"),
        payments=many(
            record(
                id=UUID,
                status=_PAYMENT_STATUS,
                member=WHOLE,
                number=WHOLE,
                client=TEXT,
                node=maybe(TEXT),
                node_id=maybe(UUID),
                fee_bps=WHOLE,
                amount_units=WHOLE,
                paid_units=WHOLE,
                platform_fee_units=WHOLE,
                node_reward_units=WHOLE,
                refunded_units=WHOLE,
                transactions=many(record(reference=TEXT, kind=TEXT, amount_units=WHOLE, at=TIME)),
            )
        ),
        started_at=maybe(TIME),
        completed_at=maybe(TIME),
        digests={**TEXTS, "description": "SHA-256 of the canonical JSON of each other field"},
        signature=record(algorithm=one_of("ed25519"), public_key=SHA256, value=TEXT),
    ),
    "Receipts": page("receipts", "ReceiptLine"),
    "ReceiptLine": record(
        (),
        job_id=UUID,
        name=TEXT,
        status=_STATUS,
        **_amounts("price", "paid", "refunded"),
        charged=FLAG,
        settled=FLAG,
        created_at=TIME,
        completed_at=maybe(TIME),
    ),
    "LedgerInfo": record(
        backend=TEXT, network=maybe(TEXT), platform=maybe(TEXT), token_mint=maybe(TEXT), program_id=maybe(TEXT)
    ),
    "Platform": record(
        algorithm=one_of("ed25519"),
        public_key={**SHA256, "description": "in hex"},
        fee_bps=WHOLE,
        ledger=maybe(ref("LedgerInfo")),
    ),
    "WalletNonceMade": record(nonce=TEXT, message=TEXT, expires_at=TIME),
    "LinkedWallet": record(wallet_address=TEXT, linked_at=TIME),
    "LinkedWallets": record(wallets=many(ref("LinkedWallet"))),
    "UnlinkedWallet": record(wallet_address=TEXT, unlinked=FLAG),
    "BlockchainWallet": record(
        address=TEXT,
        network=TEXT,
        sol_balance=maybe(NUMBER),
        sol_balance_usd=maybe(NUMBER),
        cyxwiz_balance=maybe(NUMBER),
        cyxwiz_balance_units=maybe(WHOLE),
        cyxwiz_balance_usd=maybe(NUMBER),
        token_mint=maybe(TEXT),
        sol_price_usd=maybe(NUMBER),
        cyxwiz_price_usd=maybe(NUMBER),
        is_connected=FLAG,
        rpc_endpoint=maybe(TEXT),
        program_id=maybe(TEXT),
    ),
    "BlockchainTransactions": page("transactions", "BlockchainTransaction"),
    "BlockchainTransaction": record(
        id=UUID,
        tx_type=TEXT,
        job_id=UUID,
        amount=WHOLE,
        amount_sol=maybe(NUMBER),
        amount_cyxwiz=MONEY,
        platform_fee=WHOLE,
        node_reward=WHOLE,
        status=_PAYMENT_STATUS,
        escrow_tx_hash=maybe(TEXT),
        completion_tx_hash=maybe(TEXT),
        user_wallet=TEXT,
        node_wallet=maybe(TEXT),
        created_at=TIME,
        completed_at=maybe(TIME),
    ),
    "BlockchainEscrows": record(
        escrows=many(
            record(
                id=UUID,
                job_id=UUID,
                user_wallet=TEXT,
                node_wallet=maybe(TEXT),
                amount=WHOLE,
                amount_sol=maybe(NUMBER),
                amount_cyxwiz=MONEY,
                status=_PAYMENT_STATUS,
                escrow_account=maybe(TEXT),
                created_at=TIME,
            )
        ),
        total=WHOLE,
        total_locked_lamports=WHOLE,
        total_locked_sol=maybe(NUMBER),
        total_locked_cyxwiz=MONEY,
    ),
    "BlockchainStats": record(
        (),
        total_transactions=WHOLE,
        total_volume_lamports=WHOLE,
        **_sums("total_volume"),
        platform_fees_collected=WHOLE,
        **_sums("platform_fees_collected"),
        node_payouts_total=WHOLE,
        **_sums("node_payouts_total"),
        active_escrows_count=WHOLE,
        active_escrows_value=WHOLE,
        **_sums("active_escrows"),
        transactions_24h=WHOLE,
        volume_24h_lamports=WHOLE,
        **_sums("volume_24h"),
        sol_price_usd=maybe(NUMBER),
        cyxwiz_price_usd=maybe(NUMBER),
    ),
    "BlockchainPrices": record(sol_price_usd=maybe(NUMBER), cyxwiz_price_usd=maybe(NUMBER), last_updated=maybe(TIME)),
    "Wallet": record(
        address=TEXT,
        backend=TEXT,
        network=maybe(TEXT),
        balance=MONEY,
        balance_units=WHOLE,
        locked=MONEY,
        locked_units=WHOLE,
        token_mint=maybe(TEXT),
        program_id=maybe(TEXT),
        rpc_endpoint=maybe(TEXT),
    ),
    "JobPayments": page("payments", "JobPayment"),
    "JobPayment": record(
        id=UUID,
        job_id=UUID,
        owner_id=UUID,
        status=_PAYMENT_STATUS,
        funding=one_of("prepaid", "signed"),
        client=TEXT,
        node=maybe(TEXT),
        node_id=maybe(UUID),
        member=WHOLE,
        amount=MONEY,
        amount_units=WHOLE,
        earned=MONEY,
        earned_units=WHOLE,
        paid=MONEY,
        paid_units=WHOLE,
        platform_fee=MONEY,
        platform_fee_units=WHOLE,
        node_reward=MONEY,
        node_reward_units=WHOLE,
        refunded=MONEY,
        refunded_units=WHOLE,
        fee_bps=WHOLE,
        error=maybe(TEXT),
        created_at=TIME,
        locked_at=maybe(TIME),
        ended_at=maybe(TIME),
        deadline=TIME,
    ),
    "Transactions": page("transactions", "Transaction"),
    "Transaction": record(
        reference=TEXT,
        kind=TEXT,
        status=one_of("pending", "confirmed", "failed"),
        amount=MONEY,
        amount_units=WHOLE,
        platform_fee=MONEY,
        platform_fee_units=WHOLE,
        source=TEXT,
        destination=TEXT,
        payment_id=maybe(UUID),
        job_id=maybe(UUID),
        node_id=maybe(UUID),
        at=TIME,
        confirmed_at=maybe(TIME),
        error=maybe(TEXT),
    ),
    "Granted": record(user_id=UUID, amount=MONEY, amount_units=WHOLE, reference=TEXT),
    "JobUpdate": record(
        job=ref("Job"),
        events=many(ref("Note")),
        metrics=many(ref("MetricPoint")),
        logs=many(ref("LogLine")),
        cursor=TEXT,
    ),
    "Note": record(seq=WHOLE, type=TEXT, at=maybe(TIME), data=ANYTHING),
    "DeletedJob": record(id=UUID, deleted=FLAG),
    "Node": record(
        ("reputation_account",),
        id=UUID,
        name=TEXT,
        status=one_of("offline", "online", "busy", "draining", "banned"),
        region=TEXT,
        reputation=SHARE,
        tier=one_of("premium", "normal", "probation", "banned"),
        reputation_account=ref("ReputationAccount"),
        **_amounts("stake"),
        load=WHOLE,
        current_load=SHARE,
        max_concurrent_jobs=WHOLE,
        cpu_model=TEXT,
        cpu_cores=WHOLE,
        ram_total_bytes=WHOLE,
        ram_available_bytes=WHOLE,
        gpu_model=maybe(TEXT),
        devices=many(ANYTHING),
        hardware_unknown=many(TEXT),
        closed_reason=maybe(TEXT),
        reserved={**FLAG, "description": "kept for one owner now"},
        compute_score=NUMBER,
        price_per_hour=NUMBER,
        pricing=record(
            set_by=one_of("node", "tariff"),
            billing=one_of("hourly", "per_epoch", "per_job", "per_inference"),
            per_hour=MONEY,
            per_epoch=MONEY,
            per_job=MONEY,
            per_inference=MONEY,
            minimum_charge=MONEY,
            minimum_minutes=WHOLE,
            discount_1h=SHARE,
            discount_24h=SHARE,
            discount_bulk=SHARE,
            free_tier=FLAG,
            free_tier_minutes=WHOLE,
            usd_per_hour=NUMBER,
            currencies=many(TEXT),
            updated_at=maybe(TIME),
        ),
        jobs_completed=WHOLE,
        jobs_failed=WHOLE,
        total_compute_seconds=NUMBER,
        uptime=SHARE,
        version=TEXT,
        owner_id=UUID,
        legacy=FLAG,
        registered_at=TIME,
        last_seen_at=TIME,
        banned_until=maybe(TIME),
    ),
    "ReputationAccount": record(
        score=NUMBER,
        tier=TEXT,
        strikes=WHOLE,
        bans=WHOLE,
        half_life_hours=NUMBER,
        start=NUMBER,
        earlier=NUMBER,
        events=many(ref("ReputationEvent")),
    ),
    "ReputationEvent": record(
        at=TIME, kind=TEXT, cause=TEXT, delta=NUMBER, weight=SHARE, counts=NUMBER, job_id=maybe(UUID), note=TEXT
    ),
    "Nodes": page("nodes", "Node"),
    "Stake": record(
        (),
        node_id=UUID,
        owner_id=UUID,
        account=TEXT,
        cooling_until=maybe(TIME),
        contest=one_of("none", "pending", "appealed"),
        contested_until=maybe(TIME),
        evidence_hash=maybe(SHA256),
        cooldown_seconds=NUMBER,
        appeal_seconds=NUMBER,
        steps=many(ref("StakeStep")),
        did=maybe(ref("StakeStep")),
        **_amounts("stake", "cooling", "withdrawable", "contested", "slashed", "required", "minimum"),
    ),
    "StakeStep": record(
        (),
        id=UUID,
        kind=one_of("stake", "cooldown", "unstake", "slash", "appeal", "judge", "conclude"),
        status=one_of("pending", "done", "failed"),
        evidence_hash=maybe(SHA256),
        by=TEXT,
        reference=maybe(TEXT),
        error=maybe(TEXT),
        at=TIME,
        **_amounts("amount"),
    ),
    "Reservation": record(
        ("p2p",),
        id=UUID,
        status=one_of("pending", "active", "completed", "cancelled", "expired", "failed"),
        ending={**FLAG, "description": "one side has ended it, the other has not"},
        node_id=UUID,
        node_name=maybe(TEXT),
        user_id=UUID,
        wallet=TEXT,
        started_at=TIME,
        ends_at=TIME,
        ended_at=maybe(TIME),
        reason=TEXT,
        duration_minutes=WHOLE,
        remaining_seconds=WHOLE,
        used_seconds=NUMBER,
        engine_connected=FLAG,
        current_job_id=maybe(TEXT),
        progress=SHARE,
        metrics=NUMBERS,
        jobs_completed=WHOLE,
        price_per_hour=MONEY,
        price_per_hour_units=WHOLE,
        escrow=MONEY,
        escrow_units=WHOLE,
        paid=MONEY,
        paid_units=WHOLE,
        fee=MONEY,
        fee_units=WHOLE,
        refunded=MONEY,
        refunded_units=WHOLE,
        charged={**FLAG, "description": "a ledger moved the money; without one these are what would be paid"},
        settled=FLAG,
        escrow_account=maybe(TEXT),
        payment_tx_hash=maybe(TEXT),
        refund_tx_hash=maybe(TEXT),
        p2p={
            **record(node_endpoint=maybe(TEXT), auth_token=TEXT, expires_at=WHOLE),
            "description": "how to reach the node, when it is made",
        },
    ),
    "Reservations": page("reservations", "Reservation"),
    "NodeMetrics": record(node_id=UUID, metrics=many(ANYTHING), count=WHOLE),
    "JoinToken": record(
        ("token",),
        id=UUID,
        token={**TEXT, "description": "shown once, when it is made"},
        owner_id=UUID,
        uses_left=maybe(WHOLE),
        created_at=TIME,
        expires_at=maybe(TIME),
        revoked_at=maybe(TIME),
    ),
    "JoinTokens": page("tokens", "JoinToken"),
    "User": record(("disabled", "created_at"), id=UUID, name=TEXT, role=TEXT, disabled=FLAG, created_at=TIME),
    "Users": page("users", "User"),
    "Budget": record(
        user_id=UUID,
        name=TEXT,
        month=TEXT,
        budget=maybe(MONEY),
        reserved=MONEY,
        spent=MONEY,
        left=maybe(MONEY),
    ),
    "Tokens": record(
        access_token=TEXT, refresh_token=TEXT, token_type=one_of("Bearer"), expires_in=WHOLE, user=ref("User")
    ),
    "LoggedOut": record(logged_out=FLAG),
    "NewKeyMade": record(id=UUID, key={**TEXT, "description": "shown this once"}, name=TEXT, created_at=TIME),
    "Key": record(id=UUID, name=TEXT, prefix=TEXT, user_id=UUID, created_at=TIME, revoked_at=maybe(TIME)),
    "Keys": page("keys", "Key"),
    "Ticket": record(ticket=TEXT, expires_in=WHOLE),
    "Blob": record(("uri", "offset"), sha256=SHA256, size=WHOLE, uri=TEXT, offset=WHOLE),
}

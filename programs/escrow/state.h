/* An escrow's account and what the plain and the streaming instructions share. Layouts: docs/programs.md. */
#pragma once

#include "token.h"

#define ESCROW_TAG 0x31304353454e5843ULL /* "CXNESC01" */
#define SHARES 10000                     /* basis points of the whole */
#define FEE_MAX 5000                     /* a node keeps at least half */
#define LIFE_MAX (366ULL * 86400)
#define WINDOW_MAX (30ULL * 86400)
#define INTERVAL_MAX 86400ULL
#define PARTS 4 /* of an interval, by which is remembered when a stream earned what */
#define PLACES (PARTS + 1)

enum Flag {
    BORN_OPEN = 1, /* created without a node: the platform chooses one */
    STREAM = 2,
    STOPPED = 4,
    CLIENT_DISPUTED = 8,
    NODE_DISPUTED = 16,
};

typedef struct {
    u64 tag;
    u8 bump;
    u8 vault_bump;
    u8 flags;
    u8 reserved;
    u16 fee_bps;
    u16 reserved2;
    u8 job[16];
    Key client;
    Key payer;
    Key mint;
    Key platform;
    Key arbiter;
    Key fee_account;
    Key node; /* zero while the escrow is open */
    Key vault;
    Key evidence; /* digest of what the last milestone was accepted for */
    u64 amount;
    u64 released; /* paid out of `amount` so far, fees included */
    u64 fees;     /* of these: floor(released * fee_bps / 10000) */
    u64 accrued;  /* stream: earned so far, fees included; never less than `released` */
    i64 created_at;
    i64 deadline;
    i64 frozen_until; /* end of the open dispute, or of the last one */
    i64 accrued_at;   /* stream: the time up to which something was earned */
    u64 cap;          /* stream: most that is earned in any time as long as an interval */
    u32 interval;     /* stream: seconds */
    u32 window;       /* seconds of a dispute */
    u64 earned[PLACES]; /* stream: in the part of accrued_at and those before it, each in the place of its number */
} Escrow;

_Static_assert(sizeof(Escrow) == 440, "layout of the escrow account");

/* Accounts of every instruction that may pay. */
enum Payout { AUTHORITY, STATE, VAULT, NODE_TOKENS, FEE_TOKENS, CLIENT_TOKENS, PAYER, TOKENS, PAYOUT_COUNT };

static inline int has(const Escrow *escrow, enum Flag flag) {
    return (escrow->flags & flag) != 0;
}

/* The escrow in account `at`, with its owner, tag and address checked. */
static u64 load(Call *call, u64 at, Escrow **escrow) {
    Account *account = &call->accounts[at];
    TRY(need_state(account, call->program, sizeof(Escrow), ESCROW_TAG));
    TRY(need_writable(account));
    Escrow *found = (Escrow *)account->data;
    const Seed seeds[] = {seed("escrow", 6), seed(&found->client, 32), seed(found->job, 16), seed(&found->bump, 1)};
    TRY(need_derived(account, seeds, LENGTH(seeds), call->program));
    *escrow = found;
    return OK;
}

/* The signer of instructions with two accounts: who signs, then the state. */
static u64 load_signed(Call *call, Escrow **escrow) {
    REQUIRE(call->count == 2, ERR_ACCOUNT_COUNT);
    TRY(need_signer(&call->accounts[AUTHORITY]));
    return load(call, STATE, escrow);
}

/* The accounts of enum Payout, checked as far as they don't depend on who is paid. */
static u64 load_payout(Call *call, Escrow **escrow) {
    Account *accounts = call->accounts;
    REQUIRE(call->count == PAYOUT_COUNT, ERR_ACCOUNT_COUNT);
    TRY(need_signer(&accounts[AUTHORITY]));
    TRY(load(call, STATE, escrow));
    TRY(need_key(&accounts[VAULT], &(*escrow)->vault));
    TRY(need_token_account(&accounts[VAULT], &(*escrow)->mint, accounts[STATE].key));
    TRY(need_key(&accounts[FEE_TOKENS], &(*escrow)->fee_account));
    TRY(need_key(&accounts[PAYER], &(*escrow)->payer));
    TRY(need_program(&accounts[TOKENS], &TOKEN_PROGRAM));
    for (u64 i = NODE_TOKENS; i <= PAYER; i++) {
        REQUIRE(!same(accounts[i].key, accounts[VAULT].key), ERR_DUPLICATE);
        REQUIRE(!same(accounts[i].key, accounts[STATE].key), ERR_DUPLICATE);
    }
    return OK;
}

static inline int signs(const Call *call, const Key *key) {
    return call->accounts[AUTHORITY].is_signer && same(call->accounts[AUTHORITY].key, key);
}

/* Whether the node signs; an open escrow has none. */
static inline int node_signs(const Call *call, const Escrow *escrow) {
    return !is_zero(&escrow->node) && signs(call, &escrow->node);
}

/* The escrow's own signature, by which its vault pays. */
#define AS_ESCROW(name, escrow, account)                                                                  \
    const Seed name##_seeds[] = {seed("escrow", 6), seed(&(escrow)->client, 32), seed((escrow)->job, 16), \
                                 seed(&(escrow)->bump, 1)};                                               \
    const Signer name##_signer = {name##_seeds, LENGTH(name##_seeds)};                                    \
    const Authority name = {account, &name##_signer}

static int can_take_fee(const Account *account, const Escrow *escrow) {
    return need_token_account(account, &escrow->mint, 0) == OK;
}

/* Raises what was paid out to `total`. The platform's share of the whole is floor(total * fee_bps / 10000) and the node
 * has the rest, however the way there was cut. A fee account that was closed or frozen forfeits its share to the node:
 * the platform must not be able to block a node's pay. */
static u64 pay(Call *call, Escrow *escrow, u64 total) {
    Account *accounts = call->accounts;
    u64 due, fees, fee, node;
    REQUIRE(total <= escrow->amount, ERR_FUNDS);
    TRY(subtract(total, escrow->released, &due));
    if (due == 0) return OK;
    REQUIRE(!is_zero(&escrow->node), ERR_STATE);
    TRY(multiply_divide(total, escrow->fee_bps, SHARES, &fees));
    TRY(subtract(fees, escrow->fees, &fee));
    TRY(subtract(due, fee, &node));
    if (!can_take_fee(&accounts[FEE_TOKENS], escrow)) {
        node = due;
        fee = 0;
    }
    if (node) TRY(need_token_account(&accounts[NODE_TOKENS], &escrow->mint, &escrow->node));
    escrow->released = total;
    escrow->fees = fees;
    AS_ESCROW(vault, escrow, &accounts[STATE]);
    TRY(transfer(call, &accounts[VAULT], &accounts[NODE_TOKENS], node, &vault));
    return transfer(call, &accounts[VAULT], &accounts[FEE_TOKENS], fee, &vault);
}

/* Pays up to `total`, gives all that is left in the vault to the client and ends both accounts. */
static u64 finish(Call *call, Escrow *escrow, u64 total) {
    Account *accounts = call->accounts;
    TRY(pay(call, escrow, total));
    const u64 rest = token_balance(&accounts[VAULT]);
    if (rest) TRY(need_token_account(&accounts[CLIENT_TOKENS], &escrow->mint, &escrow->client));
    TRY(need_writable(&accounts[PAYER]));
    AS_ESCROW(vault, escrow, &accounts[STATE]);
    TRY(transfer(call, &accounts[VAULT], &accounts[CLIENT_TOKENS], rest, &vault));
    TRY(close_token_account(call, &accounts[VAULT], &accounts[PAYER], &vault));
    return end_account(&accounts[STATE], &accounts[PAYER]);
}

/* JobEscrow: a client's tokens, locked for one job until they are paid to its node or given back.
 *
 * Money leaves a vault to three places only: a token account of the node's key, the fee account fixed at creation, and a
 * token account of the client's key. Totals are cumulative: an instruction that is sent twice is refused the second time.
 * Rules, layouts and threats: docs/programs.md.
 */

#include "../streaming/streaming.h"

typedef struct {
    u64 instruction;
    u8 job[16];
    u64 amount;
    i64 deadline;
    u64 cap;
    u32 interval;
    u32 window;
    u64 fee_bps;
    Key node;
    Key platform;
    Key arbiter;
} CreateArguments;

_Static_assert(sizeof(CreateArguments) == 160, "layout of create");

typedef struct {
    u64 instruction;
    Key node;
} AssignArguments;

typedef struct {
    u64 instruction;
    u64 total;
} TotalArguments;

static u64 check_terms(const CreateArguments *terms, i64 now) {
    i64 latest;
    TRY(later(now, LIFE_MAX, &latest));
    REQUIRE(terms->amount > 0 && terms->amount <= (u64)I64_MAX, ERR_ARGUMENT);
    REQUIRE(terms->fee_bps <= FEE_MAX, ERR_ARGUMENT);
    REQUIRE(terms->deadline > now && terms->deadline <= latest, ERR_ARGUMENT);
    REQUIRE(terms->window > 0 && terms->window <= WINDOW_MAX, ERR_ARGUMENT);
    REQUIRE(!is_zero(&terms->platform) && !is_zero(&terms->arbiter), ERR_ARGUMENT);
    if (terms->interval == 0) {
        REQUIRE(terms->cap == 0, ERR_ARGUMENT);
    } else {
        REQUIRE(terms->interval <= INTERVAL_MAX && terms->cap > 0 && terms->cap <= terms->amount, ERR_ARGUMENT);
    }
    return OK;
}

static u64 create(Call *call) {
    enum { PAYER_, CLIENT, SOURCE, STATE_, VAULT_, MINT, FEE, TOKENS_, SYSTEM, COUNT };
    Account *accounts = call->accounts;
    REQUIRE(call->data_len == sizeof(CreateArguments), ERR_INSTRUCTION);
    REQUIRE(call->count == COUNT, ERR_ACCOUNT_COUNT);
    const CreateArguments *terms = (const CreateArguments *)call->data;
    const i64 now = unix_time();
    TRY(check_terms(terms, now));
    TRY(need_signer(&accounts[PAYER_]));
    TRY(need_signer(&accounts[CLIENT]));
    TRY(need_program(&accounts[TOKENS_], &TOKEN_PROGRAM));
    TRY(need_program(&accounts[SYSTEM], &SYSTEM_PROGRAM));
    TRY(need_mint(&accounts[MINT]));
    const Key *mint = accounts[MINT].key;
    TRY(need_token_account(&accounts[SOURCE], mint, accounts[CLIENT].key));
    TRY(need_token_account(&accounts[FEE], mint, 0));
    REQUIRE(token_balance(&accounts[SOURCE]) >= terms->amount, ERR_FUNDS);

    u8 bump = 0, vault_bump = 0;
    Seed seeds[] = {seed("escrow", 6), seed(accounts[CLIENT].key, 32), seed(terms->job, 16), seed(&bump, 1)};
    TRY(find_derived(&accounts[STATE_], seeds, 3, call->program, &bump));
    Seed vault_seeds[] = {seed("vault", 5), seed(accounts[STATE_].key, 32), seed(&vault_bump, 1)};
    TRY(find_derived(&accounts[VAULT_], vault_seeds, 2, call->program, &vault_bump));
    REQUIRE(!same(&terms->node, accounts[STATE_].key), ERR_ARGUMENT);

    const Origin state_origin = {&accounts[PAYER_], {seeds, LENGTH(seeds)}};
    const Origin vault_origin = {&accounts[PAYER_], {vault_seeds, LENGTH(vault_seeds)}};
    TRY(make_account(call, &accounts[STATE_], sizeof(Escrow), call->program, &state_origin));
    TRY(make_token_account(call, &accounts[VAULT_], &accounts[MINT], accounts[STATE_].key, &vault_origin));

    Escrow *escrow = (Escrow *)accounts[STATE_].data;
    escrow->tag = ESCROW_TAG;
    escrow->bump = bump;
    escrow->vault_bump = vault_bump;
    escrow->flags = (is_zero(&terms->node) ? BORN_OPEN : 0) | (terms->interval ? STREAM : 0);
    escrow->fee_bps = (u16)terms->fee_bps;
    memcpy(escrow->job, terms->job, sizeof escrow->job);
    escrow->client = *accounts[CLIENT].key;
    escrow->payer = *accounts[PAYER_].key;
    escrow->mint = *mint;
    escrow->platform = terms->platform;
    escrow->arbiter = terms->arbiter;
    escrow->fee_account = *accounts[FEE].key;
    escrow->node = terms->node;
    escrow->vault = *accounts[VAULT_].key;
    escrow->amount = terms->amount;
    escrow->created_at = now;
    escrow->deadline = terms->deadline;
    escrow->accrued_at = now;
    escrow->cap = terms->cap;
    escrow->interval = terms->interval;
    escrow->window = terms->window;
    const Authority client = {&accounts[CLIENT], 0};
    return transfer(call, &accounts[SOURCE], &accounts[VAULT_], terms->amount, &client);
}

static u64 assign(Call *call) {
    REQUIRE(call->data_len == sizeof(AssignArguments), ERR_INSTRUCTION);
    const Key *node = &((const AssignArguments *)call->data)->node;
    Escrow *escrow;
    TRY(load_signed(call, &escrow));
    REQUIRE(signs(call, &escrow->platform), ERR_SIGNER);
    REQUIRE(is_zero(&escrow->node), ERR_STATE);
    REQUIRE(!is_zero(node) && !same(node, call->accounts[STATE].key), ERR_ARGUMENT);
    const i64 now = unix_time();
    REQUIRE(now < escrow->deadline, ERR_TOO_LATE);
    REQUIRE(!has(escrow, STOPPED), ERR_STATE);
    escrow->node = *node;
    if (has(escrow, STREAM)) move_on(escrow, now);
    return OK;
}

/* Opens again an escrow that was created open, so that a job can go to another node. What the node earned by milestones
 * must be paid first. */
static u64 unassign(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Escrow *escrow;
    TRY(load_signed(call, &escrow));
    REQUIRE(signs(call, &escrow->platform) || node_signs(call, escrow), ERR_SIGNER);
    REQUIRE(has(escrow, BORN_OPEN) && !is_zero(&escrow->node), ERR_STATE);
    REQUIRE(escrow->accrued <= escrow->released, ERR_STATE);
    REQUIRE(unix_time() >= escrow->frozen_until, ERR_FROZEN);
    memset(&escrow->node, 0, sizeof escrow->node);
    return OK;
}

/* What the platform's word moves: plain mode, and no dispute open. */
static u64 need_platform(const Call *call, const Escrow *escrow) {
    REQUIRE(signs(call, &escrow->platform), ERR_SIGNER);
    REQUIRE(!has(escrow, STREAM), ERR_STATE);
    REQUIRE(unix_time() >= escrow->frozen_until, ERR_FROZEN);
    return OK;
}

static u64 release(Call *call) {
    REQUIRE(call->data_len == sizeof(TotalArguments), ERR_INSTRUCTION);
    const u64 total = ((const TotalArguments *)call->data)->total;
    Escrow *escrow;
    TRY(load_payout(call, &escrow));
    TRY(need_platform(call, escrow));
    REQUIRE(total > escrow->released, ERR_ALREADY);
    return pay(call, escrow, total);
}

static u64 settle(Call *call) {
    REQUIRE(call->data_len == sizeof(TotalArguments), ERR_INSTRUCTION);
    const u64 total = ((const TotalArguments *)call->data)->total;
    Escrow *escrow;
    TRY(load_payout(call, &escrow));
    TRY(need_platform(call, escrow));
    REQUIRE(total >= escrow->released, ERR_ALREADY);
    return finish(call, escrow, total);
}

/* The platform gives the rest back; or the node gives it up, which it may at any time. */
static u64 refund(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Escrow *escrow;
    TRY(load_payout(call, &escrow));
    REQUIRE(!has(escrow, STREAM), ERR_STATE);
    if (!node_signs(call, escrow)) TRY(need_platform(call, escrow));
    return finish(call, escrow, escrow->released);
}

/* Freezes what the platform may do and the client's reclaim for `window` seconds. The deadline moves by as much, so that a
 * dispute eats nobody's time. Each side has one. */
static u64 dispute(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Escrow *escrow;
    TRY(load_signed(call, &escrow));
    const int by_node = node_signs(call, escrow);
    REQUIRE(by_node || signs(call, &escrow->client), ERR_SIGNER);
    REQUIRE(!has(escrow, STREAM) && !is_zero(&escrow->node), ERR_STATE);
    const enum Flag flag = by_node ? NODE_DISPUTED : CLIENT_DISPUTED;
    REQUIRE(!has(escrow, flag), ERR_ALREADY);
    const i64 now = unix_time();
    REQUIRE(now >= escrow->frozen_until, ERR_FROZEN);
    REQUIRE(now < escrow->deadline, ERR_TOO_LATE);
    TRY(later(now, escrow->window, &escrow->frozen_until));
    TRY(later(escrow->deadline, escrow->window, &escrow->deadline));
    escrow->flags |= flag;
    return OK;
}

/* The arbiter ends an open dispute: `total` is the node's, the rest the client's. */
static u64 resolve(Call *call) {
    REQUIRE(call->data_len == sizeof(TotalArguments), ERR_INSTRUCTION);
    const u64 total = ((const TotalArguments *)call->data)->total;
    Escrow *escrow;
    TRY(load_payout(call, &escrow));
    REQUIRE(signs(call, &escrow->arbiter), ERR_SIGNER);
    REQUIRE(unix_time() < escrow->frozen_until, ERR_TOO_LATE);
    REQUIRE(total >= escrow->released, ERR_ALREADY);
    return finish(call, escrow, total);
}

/* The client takes back what was not released: while no node is assigned, and after the deadline. */
static u64 reclaim(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Escrow *escrow;
    TRY(load_payout(call, &escrow));
    REQUIRE(signs(call, &escrow->client), ERR_SIGNER);
    REQUIRE(!has(escrow, STREAM), ERR_STATE);
    const i64 now = unix_time();
    REQUIRE(now >= escrow->frozen_until, ERR_FROZEN);
    REQUIRE(is_zero(&escrow->node) || now >= escrow->deadline, ERR_TOO_EARLY);
    return finish(call, escrow, escrow->released);
}

u64 entrypoint(u8 *input) {
    Call call;
    TRY(parse(input, &call));
    TRY(well_formed(&call));
    switch (*(const u64 *)call.data) {
        case 0: return create(&call);
        case 1: return assign(&call);
        case 2: return unassign(&call);
        case 3: return release(&call);
        case 4: return settle(&call);
        case 5: return refund(&call);
        case 6: return dispute(&call);
        case 7: return resolve(&call);
        case 8: return reclaim(&call);
        case 9: return attest(&call);
        case 10: return claim(&call);
        case 11: return stop(&call);
        case 12: return close_stream(&call);
        default: return ERR_INSTRUCTION;
    }
}

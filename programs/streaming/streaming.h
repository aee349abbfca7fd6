/* PaymentStreaming: an escrow whose money flows by attested milestones. A mode of JobEscrow's vault, chosen by the client
 * at creation, so that no money ever moves between programs.
 *
 * The platform attests what was earned in all, but the time since it did so last earns at most cap * time / interval, and
 * no time as long as an interval earns more than the cap, wherever it begins. It can do no more than that: releases and
 * refunds by the platform are refused in this mode. What is attested is the node's for good. The client ends the flow at
 * any time, alone.
 */
#pragma once

#include "../escrow/state.h"

typedef struct {
    u64 instruction;
    u64 total;
    Key evidence;
} AttestArguments;

/* Seconds of a part of an interval: a quarter of it, rounded up. */
static inline u64 part_seconds(const Escrow *escrow) {
    return ((u64)escrow->interval + PARTS - 1) / PARTS;
}

/* Brings a stream to a time; what is then over for longer than it is remembered is forgotten. Parts are numbered from
 * 1970. A clock that went back brings it nowhere. */
static void move_on(Escrow *escrow, i64 now) {
    if (now <= escrow->accrued_at) return;
    const u64 last = (u64)escrow->accrued_at / part_seconds(escrow), current = (u64)now / part_seconds(escrow);
    for (u64 part = last + 1; part <= current && part <= last + PLACES; part++) escrow->earned[part % PLACES] = 0;
    escrow->accrued_at = now;
}

/* What a stream earned in the part of accrued_at and in as many before it as an interval can reach back to. */
static u64 earned_lately(const Escrow *escrow, u64 *sum) {
    const u64 seconds = part_seconds(escrow), current = (u64)escrow->accrued_at / seconds;
    const u64 back = ((u64)escrow->interval + seconds - 1) / seconds;
    *sum = 0;
    for (u64 part = 0; part <= back && part <= current; part++) {
        TRY(add(*sum, escrow->earned[(current - part) % PLACES], sum));
    }
    return OK;
}

static u64 attest(Call *call) {
    REQUIRE(call->data_len == sizeof(AttestArguments), ERR_INSTRUCTION);
    const AttestArguments *arguments = (const AttestArguments *)call->data;
    Escrow *escrow;
    TRY(load_signed(call, &escrow));
    REQUIRE(signs(call, &escrow->platform), ERR_SIGNER);
    REQUIRE(has(escrow, STREAM) && !has(escrow, STOPPED) && !is_zero(&escrow->node), ERR_STATE);
    REQUIRE(arguments->total > escrow->accrued, ERR_ALREADY);
    REQUIRE(arguments->total <= escrow->amount, ERR_FUNDS);
    i64 until = unix_time();
    if (until > escrow->deadline) until = escrow->deadline;
    REQUIRE(until > escrow->accrued_at, ERR_RATE);
    const u64 more = arguments->total - escrow->accrued;
    u64 span = (u64)(until - escrow->accrued_at), most, lately;
    if (span > escrow->interval) span = escrow->interval;
    TRY(multiply_divide(escrow->cap, span, escrow->interval, &most));
    REQUIRE(more <= most, ERR_RATE);
    move_on(escrow, until);
    TRY(earned_lately(escrow, &lately));
    TRY(subtract(escrow->cap, lately, &most));
    REQUIRE(more <= most, ERR_RATE);
    escrow->earned[(u64)until / part_seconds(escrow) % PLACES] += more;
    escrow->accrued = arguments->total;
    escrow->evidence = arguments->evidence;
    return OK;
}

/* Pays the node what is earned and not paid yet. The platform may ask too, for a node without lamports. */
static u64 claim(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Escrow *escrow;
    TRY(load_payout(call, &escrow));
    REQUIRE(node_signs(call, escrow) || signs(call, &escrow->platform), ERR_SIGNER);
    REQUIRE(has(escrow, STREAM), ERR_STATE);
    REQUIRE(escrow->accrued > escrow->released, ERR_ALREADY);
    return pay(call, escrow, escrow->accrued);
}

/* Nothing is earned from here on. Takes no token accounts, so that nothing of others can be in its way. */
static u64 stop(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Escrow *escrow;
    TRY(load_signed(call, &escrow));
    REQUIRE(signs(call, &escrow->client), ERR_SIGNER);
    REQUIRE(has(escrow, STREAM), ERR_STATE);
    REQUIRE(!has(escrow, STOPPED), ERR_ALREADY);
    escrow->flags |= STOPPED;
    return OK;
}

/* Pays what is earned, gives the rest back and ends the accounts. Each of the three may: none can lose by it more than
 * what was not attested yet. */
static u64 close_stream(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Escrow *escrow;
    TRY(load_payout(call, &escrow));
    REQUIRE(signs(call, &escrow->client) || node_signs(call, escrow) || signs(call, &escrow->platform), ERR_SIGNER);
    REQUIRE(has(escrow, STREAM), ERR_STATE);
    return finish(call, escrow, escrow->accrued);
}

/* PaymentStreaming: an escrow whose money flows by attested milestones. A mode of JobEscrow's vault, chosen by the client
 * at creation, so that no money ever moves between programs.
 *
 * The platform attests what was earned in all, but a span of time earns at most cap * span / interval, and a span older
 * than one interval earns nothing any more. It can do no more than that: releases and refunds by the platform are refused
 * in this mode. What is attested is the node's for good. The client ends the flow at any time, alone.
 */
#pragma once

#include "../escrow/state.h"

typedef struct {
    u64 instruction;
    u64 total;
    Key evidence;
} AttestArguments;

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
    u64 span = (u64)(until - escrow->accrued_at), most;
    if (span > escrow->interval) span = escrow->interval;
    TRY(multiply_divide(escrow->cap, span, escrow->interval, &most));
    REQUIRE(arguments->total - escrow->accrued <= most, ERR_RATE);
    escrow->accrued = arguments->total;
    escrow->accrued_at = until;
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

/* The classic SPL Token program: its accounts are read in place, its instructions called.
 *
 * Token account, 165 bytes: mint 0, owner 32, amount u64 64, state u8 108 (1 usable, 2 frozen). Mint, 82 bytes:
 * initialised u8 45.
 */
#pragma once

#include "accounts.h"

#define TOKEN_ACCOUNT_SIZE 165
#define MINT_SIZE 82

static inline u64 token_balance(const Account *account) {
    return *(const u64 *)(account->data + 64);
}

static u64 need_mint(const Account *account) {
    REQUIRE(same(account->owner, &TOKEN_PROGRAM), ERR_OWNER);
    REQUIRE(account->data_len == MINT_SIZE && account->data[45] == 1, ERR_MINT);
    return OK;
}

/* A token account of `mint` that can take part in transfers; of `owner`, unless that is null. */
static u64 need_token_account(const Account *account, const Key *mint, const Key *owner) {
    REQUIRE(same(account->owner, &TOKEN_PROGRAM), ERR_OWNER);
    REQUIRE(account->data_len == TOKEN_ACCOUNT_SIZE && account->data[108] == 1, ERR_TOKEN_ACCOUNT);
    REQUIRE(same((const Key *)account->data, mint), ERR_MINT);
    REQUIRE(owner == 0 || same((const Key *)(account->data + 32), owner), ERR_TOKEN_ACCOUNT);
    return OK;
}

/* Moves `amount` units by the authority's signature. */
static u64 transfer(const Call *call, const Account *from, const Account *to, u64 amount, const Authority *by) {
    if (amount == 0) return OK;
    TRY(need_writable(from));
    TRY(need_writable(to));
    REQUIRE(!same(from->key, to->key), ERR_DUPLICATE);
    const Meta metas[] = {{from->key, 1, 0}, {to->key, 1, 0}, {by->account->key, 0, 1}};
    u8 data[9] = {3};
    for (int i = 0; i < 8; i++) data[1 + i] = (u8)(amount >> (8 * i));
    const Instruction instruction = {&TOKEN_PROGRAM, metas, LENGTH(metas), data, sizeof data};
    return invoke(&instruction, call, by->signer);
}

/* Makes `account`, derived from the origin's seeds, a token account of `mint` whose owner is `authority`. */
static u64 make_token_account(const Call *call, Account *account, const Account *mint, const Key *authority,
                              const Origin *origin) {
    TRY(make_account(call, account, TOKEN_ACCOUNT_SIZE, &TOKEN_PROGRAM, origin));
    const Meta metas[] = {{account->key, 1, 0}, {mint->key, 0, 0}};
    u8 data[33] = {18}; /* InitializeAccount3 */
    memcpy(data + 1, authority, sizeof *authority);
    const Instruction instruction = {&TOKEN_PROGRAM, metas, LENGTH(metas), data, sizeof data};
    return invoke(&instruction, call, 0);
}

/* Closes an empty token account; its lamports go to `receiver`. */
static u64 close_token_account(const Call *call, const Account *account, const Account *receiver,
                               const Authority *by) {
    const Meta metas[] = {{account->key, 1, 0}, {receiver->key, 1, 0}, {by->account->key, 0, 1}};
    const u8 data[1] = {9};
    const Instruction instruction = {&TOKEN_PROGRAM, metas, LENGTH(metas), data, sizeof data};
    return invoke(&instruction, call, by->signer);
}

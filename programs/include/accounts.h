/* Checks of accounts, addresses derived from seeds, accounts made and closed. */
#pragma once

#include "arithmetic.h"

#define SEEDS_MAX 4

static inline Seed seed(const void *bytes, u64 length) {
    Seed made = {bytes, length};
    return made;
}

static inline u64 need_signer(const Account *account) {
    REQUIRE(account->is_signer, ERR_SIGNER);
    return OK;
}

static inline u64 need_writable(const Account *account) {
    REQUIRE(account->is_writable, ERR_NOT_WRITABLE);
    return OK;
}

static inline u64 need_key(const Account *account, const Key *key) {
    REQUIRE(same(account->key, key), ERR_ADDRESS);
    return OK;
}

static inline u64 need_program(const Account *account, const Key *program) {
    REQUIRE(same(account->key, program) && account->executable, ERR_PROGRAM);
    return OK;
}

/* State of `program` with this tag and size, writable. */
static u64 need_state(const Account *account, const Key *program, u64 size, u64 tag) {
    REQUIRE(same(account->owner, program), ERR_OWNER);
    REQUIRE(account->data_len == size && *(const u64 *)account->data == tag, ERR_NOT_INITIALISED);
    return OK;
}

/* The account lies where these seeds and the recorded bump lead. `seeds[count - 1]` is the bump's. */
static u64 need_derived(const Account *account, const Seed *seeds, u64 count, const Key *program) {
    Key derived;
    REQUIRE(sol_create_program_address(seeds, count, program, &derived) == 0, ERR_ADDRESS);
    return need_key(account, &derived);
}

/* The account lies at the first address that these seeds give; `bump` gets the byte that made it. */
static u64 find_derived(const Account *account, const Seed *seeds, u64 count, const Key *program, u8 *bump) {
    Key derived;
    REQUIRE(sol_try_find_program_address(seeds, count, program, &derived, bump) == 0, ERR_ADDRESS);
    return need_key(account, &derived);
}

static u64 invoke(const Instruction *instruction, const Call *call, const Signer *signer) {
    return sol_invoke_signed_c(instruction, call->accounts, call->count, signer, signer ? 1 : 0);
}

/* Lamports that keep `size` bytes of data exempt from rent. The threshold is a double: 2.0, or 1.0 where a cluster has
 * folded it into the price of a byte. */
static u64 rent_minimum(u64 size, u64 *lamports) {
    Rent rent;
    REQUIRE(sol_get_rent_sysvar(&rent) == 0, ERR_RENT);
    const u64 one = 0x3ff0000000000000ULL, two = 0x4000000000000000ULL;
    REQUIRE(rent.threshold_bits == one || rent.threshold_bits == two, ERR_RENT);
    REQUIRE(rent.lamports_per_byte < ((u64)1 << 40), ERR_RENT);
    *lamports = (size + 128) * rent.lamports_per_byte * (rent.threshold_bits == two ? 2 : 1);
    return OK;
}

/* Who pays the rent of an account to be made, and the seeds of its address. */
typedef struct {
    const Account *payer;
    Signer signer;
} Origin;

/* Who moves tokens: an account that signed the transaction (`signer` null), or an address of the program's own. */
typedef struct {
    const Account *account;
    const Signer *signer;
} Authority;

/* Makes `account`, an address derived from the origin's seeds, an empty account of `owner` with `size` zero bytes. Not
 * by System's create instruction: that fails where somebody sent lamports to the address before. */
static u64 make_account(const Call *call, Account *account, u64 size, const Key *owner, const Origin *origin) {
    REQUIRE(same(account->owner, &SYSTEM_PROGRAM) && account->data_len == 0, ERR_EXISTS);
    TRY(need_writable(account));
    u64 needed;
    TRY(rent_minimum(size, &needed));
    if (*account->lamports < needed) {
        const Meta metas[] = {{origin->payer->key, 1, 1}, {account->key, 1, 0}};
        u32 data[3] = {2, 0, 0}; /* Transfer */
        const u64 missing = needed - *account->lamports;
        data[1] = (u32)missing;
        data[2] = (u32)(missing >> 32);
        const Instruction transfer = {&SYSTEM_PROGRAM, metas, LENGTH(metas), (const u8 *)data, sizeof data};
        TRY(invoke(&transfer, call, 0));
    }
    const Meta metas[] = {{account->key, 1, 1}};
    const u32 space[3] = {8, (u32)size, 0}; /* Allocate */
    const Instruction allocate = {&SYSTEM_PROGRAM, metas, LENGTH(metas), (const u8 *)space, sizeof space};
    TRY(invoke(&allocate, call, &origin->signer));
    account->data_len = size;
    u32 assignment[9] = {1}; /* Assign */
    memcpy(assignment + 1, owner, sizeof *owner);
    const Instruction assign = {&SYSTEM_PROGRAM, metas, LENGTH(metas), (const u8 *)assignment, sizeof assignment};
    return invoke(&assign, call, &origin->signer);
}

/* Ends a state account: its lamports go to `receiver`, its data and its owner go. An account that is given lamports
 * again within the transaction comes back empty, not with its old state. */
static u64 end_account(Account *account, const Account *receiver) {
    u64 sum;
    TRY(add(*receiver->lamports, *account->lamports, &sum));
    memset(account->data, 0, account->data_len);
    *receiver->lamports = sum;
    *account->lamports = 0;
    *(u64 *)(account->data - 8) = 0;
    account->data_len = 0;
    *account->owner = SYSTEM_PROGRAM;
    return OK;
}

/* Types, syscalls and the layout of a call, as Solana's runtime gives them to a program (loader v2 and v3, aligned).
 *
 * A call's input is: u64 count of accounts; per account a marker byte (0xff: a new account; else the index of the one
 * that it repeats, and 7 bytes of padding), three flag bytes, 4 bytes, key, owner, u64 lamports, u64 length, data, 10 KiB
 * of room, padding to 8, u64 rent epoch; then u64 length and data of the instruction, and the program's id.
 */
#pragma once

#include "errors.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

_Static_assert(sizeof(u64) == 8 && sizeof(i64) == 8 && sizeof(void *) == 8, "64-bit");

#define U64_MAX (~(u64)0)
#define I64_MAX ((i64)(U64_MAX >> 1))
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Returns from the caller with the error of `expression`, if it has one. */
#define TRY(expression)                  \
    do {                                 \
        const u64 error_ = (expression); \
        if (error_ != OK) return error_; \
    } while (0)

#define REQUIRE(condition, error)       \
    do {                                \
        if (!(condition)) return error; \
    } while (0)

typedef struct {
    u64 words[4];
} Key;

/* The syscalls' account info, so that accounts are handed on as they were parsed. */
typedef struct {
    Key *key;
    u64 *lamports;
    u64 data_len;
    u8 *data;
    Key *owner;
    u64 rent_epoch;
    u8 is_signer;
    u8 is_writable;
    u8 executable;
} Account;

typedef struct {
    const Key *key;
    u8 is_writable;
    u8 is_signer;
} Meta;

typedef struct {
    const Key *program;
    const Meta *metas;
    u64 meta_count;
    const u8 *data;
    u64 data_len;
} Instruction;

typedef struct {
    const void *bytes;
    u64 length;
} Seed;

typedef struct {
    const Seed *seeds;
    u64 count;
} Signer;

typedef struct {
    u64 slot;
    i64 epoch_start;
    u64 epoch;
    u64 leader_schedule_epoch;
    i64 unix_timestamp;
} Clock;

typedef struct {
    u64 lamports_per_byte;
    u64 threshold_bits; /* an IEEE double; the machine has none */
    u8 burn_percent;
} Rent;

u64 sol_try_find_program_address(const Seed *seeds, u64 count, const Key *program, Key *address, u8 *bump);
u64 sol_create_program_address(const Seed *seeds, u64 count, const Key *program, Key *address);
u64 sol_invoke_signed_c(const Instruction *, const Account *accounts, u64 count, const Signer *signers, u64 signer_count);
u64 sol_get_clock_sysvar(Clock *);
u64 sol_get_rent_sysvar(Rent *);

#define MAX_ACCOUNTS 12
#define ROOM_TO_GROW 10240
#define NEW_ACCOUNT 0xff

typedef struct {
    Account accounts[MAX_ACCOUNTS];
    u64 count;
    const u8 *data;
    u64 data_len;
    const Key *program;
} Call;

static const Key SYSTEM_PROGRAM = {{0, 0, 0, 0}};
static const Key TOKEN_PROGRAM = {{0x93a165d7e1f6dd06ULL, 0xac79ebce46e1cbd9ULL, 0x91375b5fed85b41cULL, 0xa900ff7e85f58c3aULL}};

static inline int same(const Key *a, const Key *b) {
    return a->words[0] == b->words[0] && a->words[1] == b->words[1] && a->words[2] == b->words[2] &&
           a->words[3] == b->words[3];
}

static inline int is_zero(const Key *key) {
    return (key->words[0] | key->words[1] | key->words[2] | key->words[3]) == 0;
}

/* Fills `call` from the runtime's input. */
static u64 parse(u8 *input, Call *call) {
    call->count = *(u64 *)input;
    REQUIRE(call->count <= MAX_ACCOUNTS, ERR_ACCOUNT_COUNT);
    u8 *at = input + 8;
    for (u64 i = 0; i < call->count; i++) {
        if (*at != NEW_ACCOUNT) {
            REQUIRE(*at < i, ERR_ACCOUNT_COUNT);
            call->accounts[i] = call->accounts[*at];
            at += 8;
            continue;
        }
        Account *account = &call->accounts[i];
        account->is_signer = at[1];
        account->is_writable = at[2];
        account->executable = at[3];
        account->key = (Key *)(at + 8);
        account->owner = (Key *)(at + 40);
        account->lamports = (u64 *)(at + 72);
        account->data_len = *(u64 *)(at + 80);
        account->data = at + 88;
        at = account->data + account->data_len + ROOM_TO_GROW;
        at += -(u64)at & 7;
        account->rent_epoch = *(u64 *)at;
        at += 8;
    }
    call->data_len = *(u64 *)at;
    call->data = at + 8;
    call->program = (const Key *)(call->data + call->data_len);
    return OK;
}

/* Instruction data is an 8-byte number of the instruction, then its arguments: every field is aligned, up to the
 * program's id, which follows data of a multiple of 8 bytes. */
static inline u64 well_formed(const Call *call) {
    REQUIRE(call->data_len >= 8 && (call->data_len & 7) == 0, ERR_INSTRUCTION);
    return OK;
}

static i64 unix_time(void) {
    Clock clock;
    sol_get_clock_sysvar(&clock);
    return clock.unix_timestamp;
}

/* Loops, because clang turns a copy of a struct into a call of these names. */
void *memcpy(void *to, const void *from, u64 count) {
    for (u64 i = 0; i < count; i++) ((u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

void *memset(void *to, int value, u64 count) {
    for (u64 i = 0; i < count; i++) ((u8 *)to)[i] = (u8)value;
    return to;
}

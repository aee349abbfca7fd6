/* Accounts of NodeStaking: a config for each (admin, mint), a stake for each node of a config. docs/programs.md. */
#pragma once

#include "token.h"

#define CONFIG_TAG 0x3147464353584e43ULL /* "CNXSCFG1" */
#define STAKE_TAG 0x314b545353584e43ULL  /* "CNXSSTK1" */
#define COOLDOWN_MAX (90ULL * 86400)
#define APPEAL_MAX (30ULL * 86400)
#define RATE_MAX 10000ULL                    /* basis points a year: a stake doubles at most */
#define RATE_DIVISOR (10000ULL * 31536000ULL) /* basis points times the seconds of 365 days */

typedef struct {
    u64 tag;
    u8 bump;
    u8 rewards_bump;
    u8 reserved[6];
    Key admin;   /* changes `minimum`, nothing else */
    Key slasher;
    Key judge;
    Key mint;
    Key rewards; /* token account that rewards come from and slashed stakes go to */
    u64 minimum;
    u64 cooldown; /* seconds */
    u64 appeal;   /* seconds to appeal, and as many to judge */
    u64 rate_bps; /* of the active stake, a year */
} Config;

_Static_assert(sizeof(Config) == 208, "layout of the config account");

enum Contest { NONE = 0, PENDING = 1, APPEALED = 2 };

typedef struct {
    u64 tag;
    u8 bump;
    u8 vault_bump;
    u8 contest;
    u8 reserved[5];
    Key config;
    Key node;
    Key payer;
    Key vault;
    Key evidence;
    u64 active;
    u64 cooling;
    u64 contested;         /* taken out of both, not gone yet */
    u64 contested_cooling; /* the part of it that was cooling */
    u64 slashed;           /* gone, in all */
    u64 rewards;           /* due */
    i64 cooling_until;
    i64 contested_until;
    i64 accrued_at; /* rewards are counted up to here */
} Stake;

_Static_assert(sizeof(Stake) == 248, "layout of the stake account");

/* Accounts of the instructions on a stake: the first three, or all where tokens move. */
enum Role { AUTHORITY, CONFIG, STAKE, VAULT, REWARDS, NODE_TOKENS, PAYER, TOKENS, ROLE_COUNT };

static u64 load_config(Call *call, u64 at, Config **config) {
    Account *account = &call->accounts[at];
    TRY(need_state(account, call->program, sizeof(Config), CONFIG_TAG));
    Config *found = (Config *)account->data;
    const Seed seeds[] = {seed("config", 6), seed(&found->admin, 32), seed(&found->mint, 32), seed(&found->bump, 1)};
    TRY(need_derived(account, seeds, LENGTH(seeds), call->program));
    *config = found;
    return OK;
}

/* The config and one of its stakes, with a signature of whoever asks. */
static u64 load(Call *call, u64 count, Config **config, Stake **stake) {
    REQUIRE(call->count == count, ERR_ACCOUNT_COUNT);
    TRY(need_signer(&call->accounts[AUTHORITY]));
    TRY(load_config(call, CONFIG, config));
    Account *account = &call->accounts[STAKE];
    TRY(need_state(account, call->program, sizeof(Stake), STAKE_TAG));
    TRY(need_writable(account));
    Stake *found = (Stake *)account->data;
    REQUIRE(same(&found->config, call->accounts[CONFIG].key), ERR_ADDRESS);
    const Seed seeds[] = {seed("stake", 5), seed(&found->config, 32), seed(&found->node, 32), seed(&found->bump, 1)};
    TRY(need_derived(account, seeds, LENGTH(seeds), call->program));
    *stake = found;
    return OK;
}

/* The same, with the accounts between which tokens move. */
static u64 load_tokens(Call *call, Config **config, Stake **stake) {
    TRY(load(call, ROLE_COUNT, config, stake));
    Account *accounts = call->accounts;
    const Key *mint = &(*config)->mint;
    TRY(need_key(&accounts[VAULT], &(*stake)->vault));
    TRY(need_token_account(&accounts[VAULT], mint, accounts[STAKE].key));
    TRY(need_key(&accounts[REWARDS], &(*config)->rewards));
    TRY(need_token_account(&accounts[REWARDS], mint, accounts[CONFIG].key));
    TRY(need_key(&accounts[PAYER], &(*stake)->payer));
    TRY(need_program(&accounts[TOKENS], &TOKEN_PROGRAM));
    REQUIRE(!same(accounts[NODE_TOKENS].key, accounts[VAULT].key), ERR_DUPLICATE);
    REQUIRE(!same(accounts[NODE_TOKENS].key, accounts[REWARDS].key), ERR_DUPLICATE);
    return OK;
}

static inline int signs(const Call *call, const Key *key) {
    return call->accounts[AUTHORITY].is_signer && same(call->accounts[AUTHORITY].key, key);
}

/* What the node is paid to: an account of its own. */
static u64 need_node_tokens(const Call *call, const Config *config, const Stake *stake) {
    return need_token_account(&call->accounts[NODE_TOKENS], &config->mint, &stake->node);
}

/* The stake's own signature, by which its vault pays. */
#define AS_STAKE(name, stake, account)                                                                      \
    const Seed name##_seeds[] = {seed("stake", 5), seed(&(stake)->config, 32), seed(&(stake)->node, 32),     \
                                 seed(&(stake)->bump, 1)};                                                  \
    const Signer name##_signer = {name##_seeds, LENGTH(name##_seeds)};                                      \
    const Authority name = {account, &name##_signer}

/* The config's own signature, by which the rewards vault pays. */
#define AS_CONFIG(name, config, account)                                                                    \
    const Seed name##_seeds[] = {seed("config", 6), seed(&(config)->admin, 32), seed(&(config)->mint, 32),   \
                                 seed(&(config)->bump, 1)};                                                 \
    const Signer name##_signer = {name##_seeds, LENGTH(name##_seeds)};                                      \
    const Authority name = {account, &name##_signer}

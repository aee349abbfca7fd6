/* NodeStaking: a node's tokens as a pledge. They leave its vault to two places only: a token account of the node's key,
 * and the rewards vault, where slashed stakes go, so that nobody who slashes gains by it.
 *
 * Rules, layouts and threats: docs/programs.md.
 */

#include "state.h"

typedef struct {
    u64 instruction;
    u64 minimum;
    u64 cooldown;
    u64 appeal;
    u64 rate_bps;
    Key slasher;
    Key judge;
} ConfigureArguments;

typedef struct {
    u64 instruction;
    u64 amount;
} AmountArguments;

typedef struct {
    u64 instruction;
    u64 amount;
    Key evidence;
} SlashArguments;

static u64 configure(Call *call) {
    enum { PAYER_, ADMIN, CONFIG_, REWARDS_, MINT, TOKENS_, SYSTEM, COUNT };
    Account *accounts = call->accounts;
    REQUIRE(call->data_len == sizeof(ConfigureArguments), ERR_INSTRUCTION);
    REQUIRE(call->count == COUNT, ERR_ACCOUNT_COUNT);
    const ConfigureArguments *terms = (const ConfigureArguments *)call->data;
    REQUIRE(terms->minimum > 0 && terms->minimum <= (u64)I64_MAX, ERR_ARGUMENT);
    REQUIRE(terms->cooldown > 0 && terms->cooldown <= COOLDOWN_MAX, ERR_ARGUMENT);
    REQUIRE(terms->appeal > 0 && terms->appeal <= APPEAL_MAX, ERR_ARGUMENT);
    REQUIRE(terms->rate_bps <= RATE_MAX, ERR_ARGUMENT);
    REQUIRE(!is_zero(&terms->slasher) && !is_zero(&terms->judge), ERR_ARGUMENT);
    REQUIRE(!same(&terms->slasher, &terms->judge), ERR_DUPLICATE); /* an appeal to the slasher would be none */
    TRY(need_signer(&accounts[PAYER_]));
    TRY(need_signer(&accounts[ADMIN]));
    TRY(need_mint(&accounts[MINT]));
    TRY(need_program(&accounts[TOKENS_], &TOKEN_PROGRAM));
    TRY(need_program(&accounts[SYSTEM], &SYSTEM_PROGRAM));

    u8 bump = 0, rewards_bump = 0;
    Seed seeds[] = {seed("config", 6), seed(accounts[ADMIN].key, 32), seed(accounts[MINT].key, 32), seed(&bump, 1)};
    TRY(find_derived(&accounts[CONFIG_], seeds, 3, call->program, &bump));
    Seed rewards_seeds[] = {seed("rewards", 7), seed(accounts[CONFIG_].key, 32), seed(&rewards_bump, 1)};
    TRY(find_derived(&accounts[REWARDS_], rewards_seeds, 2, call->program, &rewards_bump));
    const Origin origin = {&accounts[PAYER_], {seeds, LENGTH(seeds)}};
    const Origin rewards_origin = {&accounts[PAYER_], {rewards_seeds, LENGTH(rewards_seeds)}};
    TRY(make_account(call, &accounts[CONFIG_], sizeof(Config), call->program, &origin));
    TRY(make_token_account(call, &accounts[REWARDS_], &accounts[MINT], accounts[CONFIG_].key, &rewards_origin));

    Config *config = (Config *)accounts[CONFIG_].data;
    config->tag = CONFIG_TAG;
    config->bump = bump;
    config->rewards_bump = rewards_bump;
    config->admin = *accounts[ADMIN].key;
    config->slasher = terms->slasher;
    config->judge = terms->judge;
    config->mint = *accounts[MINT].key;
    config->rewards = *accounts[REWARDS_].key;
    config->minimum = terms->minimum;
    config->cooldown = terms->cooldown;
    config->appeal = terms->appeal;
    config->rate_bps = terms->rate_bps;
    return OK;
}

static u64 set_minimum(Call *call) {
    REQUIRE(call->data_len == sizeof(AmountArguments), ERR_INSTRUCTION);
    REQUIRE(call->count == 2, ERR_ACCOUNT_COUNT);
    const u64 minimum = ((const AmountArguments *)call->data)->amount;
    Config *config;
    TRY(need_signer(&call->accounts[AUTHORITY]));
    TRY(load_config(call, CONFIG, &config));
    TRY(need_writable(&call->accounts[CONFIG]));
    REQUIRE(signs(call, &config->admin), ERR_SIGNER);
    REQUIRE(minimum > 0 && minimum <= (u64)I64_MAX, ERR_ARGUMENT);
    config->minimum = minimum;
    return OK;
}

static u64 open(Call *call) {
    enum { PAYER_, NODE, CONFIG_, STAKE_, VAULT_, MINT, TOKENS_, SYSTEM, COUNT };
    Account *accounts = call->accounts;
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    REQUIRE(call->count == COUNT, ERR_ACCOUNT_COUNT);
    TRY(need_signer(&accounts[PAYER_]));
    TRY(need_signer(&accounts[NODE]));
    Config *config;
    TRY(load_config(call, CONFIG_, &config));
    TRY(need_mint(&accounts[MINT]));
    REQUIRE(same(accounts[MINT].key, &config->mint), ERR_MINT);
    TRY(need_program(&accounts[TOKENS_], &TOKEN_PROGRAM));
    TRY(need_program(&accounts[SYSTEM], &SYSTEM_PROGRAM));

    u8 bump = 0, vault_bump = 0;
    Seed seeds[] = {seed("stake", 5), seed(accounts[CONFIG_].key, 32), seed(accounts[NODE].key, 32), seed(&bump, 1)};
    TRY(find_derived(&accounts[STAKE_], seeds, 3, call->program, &bump));
    Seed vault_seeds[] = {seed("vault", 5), seed(accounts[STAKE_].key, 32), seed(&vault_bump, 1)};
    TRY(find_derived(&accounts[VAULT_], vault_seeds, 2, call->program, &vault_bump));
    const Origin origin = {&accounts[PAYER_], {seeds, LENGTH(seeds)}};
    const Origin vault_origin = {&accounts[PAYER_], {vault_seeds, LENGTH(vault_seeds)}};
    TRY(make_account(call, &accounts[STAKE_], sizeof(Stake), call->program, &origin));
    TRY(make_token_account(call, &accounts[VAULT_], &accounts[MINT], accounts[STAKE_].key, &vault_origin));

    Stake *stake = (Stake *)accounts[STAKE_].data;
    stake->tag = STAKE_TAG;
    stake->bump = bump;
    stake->vault_bump = vault_bump;
    stake->config = *accounts[CONFIG_].key;
    stake->node = *accounts[NODE].key;
    stake->payer = *accounts[PAYER_].key;
    stake->vault = *accounts[VAULT_].key;
    stake->accrued_at = unix_time();
    return OK;
}

/* Counts rewards up to now: floor(active * rate_bps * seconds / (10000 * 31536000)). What leaves 64 bits stays at their
 * end: a sum that nobody can pay must not lock a stake. */
static void accrue(const Config *config, Stake *stake, i64 now) {
    if (now <= stake->accrued_at) return;
    u64 factor, earned, sum;
    const u64 seconds = (u64)(now - stake->accrued_at);
    stake->accrued_at = now;
    if (multiply_divide(config->rate_bps, seconds, 1, &factor) != OK) factor = U64_MAX;
    if (multiply_divide(stake->active, factor, RATE_DIVISOR, &earned) != OK) earned = U64_MAX;
    if (add(stake->rewards, earned, &sum) != OK) sum = U64_MAX;
    stake->rewards = sum;
}

static u64 deposit(Call *call) {
    REQUIRE(call->data_len == sizeof(AmountArguments), ERR_INSTRUCTION);
    const u64 amount = ((const AmountArguments *)call->data)->amount;
    Config *config;
    Stake *stake;
    TRY(load_tokens(call, &config, &stake));
    REQUIRE(signs(call, &stake->node), ERR_SIGNER);
    TRY(need_node_tokens(call, config, stake));
    REQUIRE(amount > 0 && amount <= (u64)I64_MAX, ERR_ARGUMENT);
    REQUIRE(token_balance(&call->accounts[NODE_TOKENS]) >= amount, ERR_FUNDS);
    accrue(config, stake, unix_time());
    TRY(add(stake->active, amount, &stake->active));
    REQUIRE(stake->active >= config->minimum, ERR_ARGUMENT);
    const Authority node = {&call->accounts[AUTHORITY], 0};
    return transfer(call, &call->accounts[NODE_TOKENS], &call->accounts[VAULT], amount, &node);
}

/* Starts the cool-down of `amount`, and of what is cooling already anew. What stays is nothing or the minimum. */
static u64 unstake(Call *call) {
    REQUIRE(call->data_len == sizeof(AmountArguments), ERR_INSTRUCTION);
    const u64 amount = ((const AmountArguments *)call->data)->amount;
    Config *config;
    Stake *stake;
    TRY(load(call, STAKE + 1, &config, &stake));
    REQUIRE(signs(call, &stake->node), ERR_SIGNER);
    REQUIRE(amount > 0, ERR_ARGUMENT);
    REQUIRE(amount <= stake->active, ERR_FUNDS);
    const i64 now = unix_time();
    accrue(config, stake, now);
    TRY(subtract(stake->active, amount, &stake->active));
    REQUIRE(stake->active == 0 || stake->active >= config->minimum, ERR_ARGUMENT);
    TRY(add(stake->cooling, amount, &stake->cooling));
    return later(now, config->cooldown, &stake->cooling_until);
}

static u64 withdraw(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Config *config;
    Stake *stake;
    TRY(load_tokens(call, &config, &stake));
    REQUIRE(signs(call, &stake->node), ERR_SIGNER);
    REQUIRE(stake->cooling > 0, ERR_ALREADY);
    REQUIRE(unix_time() >= stake->cooling_until, ERR_TOO_EARLY);
    TRY(need_node_tokens(call, config, stake));
    const u64 amount = stake->cooling;
    stake->cooling = 0;
    AS_STAKE(vault, stake, &call->accounts[STAKE]);
    return transfer(call, &call->accounts[VAULT], &call->accounts[NODE_TOKENS], amount, &vault);
}

/* Sets `amount` aside, first of what is active, then of what cools down. It goes when nobody appeals in time. */
static u64 slash(Call *call) {
    REQUIRE(call->data_len == sizeof(SlashArguments), ERR_INSTRUCTION);
    const SlashArguments *arguments = (const SlashArguments *)call->data;
    Config *config;
    Stake *stake;
    TRY(load(call, STAKE + 1, &config, &stake));
    REQUIRE(signs(call, &config->slasher), ERR_SIGNER);
    REQUIRE(stake->contest == NONE, ERR_STATE);
    REQUIRE(arguments->amount > 0 && !is_zero(&arguments->evidence), ERR_ARGUMENT);
    u64 pledged;
    TRY(add(stake->active, stake->cooling, &pledged));
    REQUIRE(arguments->amount <= pledged, ERR_FUNDS);
    const i64 now = unix_time();
    accrue(config, stake, now);
    const u64 of_active = arguments->amount < stake->active ? arguments->amount : stake->active;
    const u64 of_cooling = arguments->amount - of_active;
    TRY(subtract(stake->active, of_active, &stake->active));
    TRY(subtract(stake->cooling, of_cooling, &stake->cooling));
    stake->contested = arguments->amount;
    stake->contested_cooling = of_cooling;
    stake->contest = PENDING;
    stake->evidence = arguments->evidence;
    return later(now, config->appeal, &stake->contested_until);
}

static u64 appeal(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Config *config;
    Stake *stake;
    TRY(load(call, STAKE + 1, &config, &stake));
    REQUIRE(signs(call, &stake->node), ERR_SIGNER);
    REQUIRE(stake->contest == PENDING, ERR_STATE);
    const i64 now = unix_time();
    REQUIRE(now < stake->contested_until, ERR_TOO_LATE);
    stake->contest = APPEALED;
    return later(now, config->appeal, &stake->contested_until);
}

/* Ends a slash: `upheld`, its tokens go to the rewards vault; else they are what they were. */
static u64 end_contest(Call *call, const Config *config, Stake *stake, int upheld) {
    const u64 amount = stake->contested, of_cooling = stake->contested_cooling;
    accrue(config, stake, unix_time());
    stake->contested = 0;
    stake->contested_cooling = 0;
    stake->contest = NONE;
    if (!upheld) {
        TRY(add(stake->cooling, of_cooling, &stake->cooling));
        return add(stake->active, amount - of_cooling, &stake->active);
    }
    TRY(add(stake->slashed, amount, &stake->slashed));
    AS_STAKE(vault, stake, &call->accounts[STAKE]);
    return transfer(call, &call->accounts[VAULT], &call->accounts[REWARDS], amount, &vault);
}

static u64 judge(Call *call) {
    REQUIRE(call->data_len == sizeof(AmountArguments), ERR_INSTRUCTION);
    const u64 upheld = ((const AmountArguments *)call->data)->amount;
    REQUIRE(upheld <= 1, ERR_ARGUMENT);
    Config *config;
    Stake *stake;
    TRY(load_tokens(call, &config, &stake));
    REQUIRE(signs(call, &config->judge), ERR_SIGNER);
    REQUIRE(stake->contest == APPEALED, ERR_STATE);
    REQUIRE(unix_time() < stake->contested_until, ERR_TOO_LATE);
    return end_contest(call, config, stake, upheld == 1);
}

/* What time decides, for whoever asks: a slash without appeal holds, an appeal without judgment is granted. */
static u64 conclude(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Config *config;
    Stake *stake;
    TRY(load_tokens(call, &config, &stake));
    REQUIRE(stake->contest != NONE, ERR_STATE);
    REQUIRE(unix_time() >= stake->contested_until, ERR_TOO_EARLY);
    return end_contest(call, config, stake, stake->contest == PENDING);
}

/* Pays of the rewards due what the vault has. */
static u64 pay_rewards(Call *call, const Config *config, Stake *stake) {
    const u64 there = token_balance(&call->accounts[REWARDS]);
    const u64 amount = stake->rewards < there ? stake->rewards : there;
    if (amount == 0) return OK;
    TRY(need_node_tokens(call, config, stake));
    stake->rewards -= amount;
    AS_CONFIG(rewards, config, &call->accounts[CONFIG]);
    return transfer(call, &call->accounts[REWARDS], &call->accounts[NODE_TOKENS], amount, &rewards);
}

static u64 claim_rewards(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Config *config;
    Stake *stake;
    TRY(load_tokens(call, &config, &stake));
    REQUIRE(signs(call, &stake->node), ERR_SIGNER);
    accrue(config, stake, unix_time());
    REQUIRE(stake->rewards > 0, ERR_ALREADY);
    REQUIRE(token_balance(&call->accounts[REWARDS]) > 0, ERR_FUNDS);
    return pay_rewards(call, config, stake);
}

/* Ends a stake of which nothing is left. Rewards that the vault cannot pay lapse; tokens sent to the vault from outside
 * are the node's. */
static u64 close(Call *call) {
    REQUIRE(call->data_len == 8, ERR_INSTRUCTION);
    Account *accounts = call->accounts;
    Config *config;
    Stake *stake;
    TRY(load_tokens(call, &config, &stake));
    REQUIRE(signs(call, &stake->node), ERR_SIGNER);
    REQUIRE(stake->active == 0 && stake->cooling == 0 && stake->contest == NONE, ERR_STATE);
    TRY(pay_rewards(call, config, stake));
    const u64 rest = token_balance(&accounts[VAULT]);
    if (rest) TRY(need_node_tokens(call, config, stake));
    TRY(need_writable(&accounts[PAYER]));
    AS_STAKE(vault, stake, &accounts[STAKE]);
    TRY(transfer(call, &accounts[VAULT], &accounts[NODE_TOKENS], rest, &vault));
    TRY(close_token_account(call, &accounts[VAULT], &accounts[PAYER], &vault));
    return end_account(&accounts[STAKE], &accounts[PAYER]);
}

u64 entrypoint(u8 *input) {
    Call call;
    TRY(parse(input, &call));
    TRY(well_formed(&call));
    switch (*(const u64 *)call.data) {
        case 0: return configure(&call);
        case 1: return set_minimum(&call);
        case 2: return open(&call);
        case 3: return deposit(&call);
        case 4: return unstake(&call);
        case 5: return withdraw(&call);
        case 6: return slash(&call);
        case 7: return appeal(&call);
        case 8: return judge(&call);
        case 9: return conclude(&call);
        case 10: return claim_rewards(&call);
        case 11: return close(&call);
        default: return ERR_INSTRUCTION;
    }
}

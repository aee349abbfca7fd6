/* Integers that never wrap: each operation gives its result or ERR_OVERFLOW. */
#pragma once

#include "solana.h"

static inline u64 add(u64 a, u64 b, u64 *sum) {
    REQUIRE(b <= U64_MAX - a, ERR_OVERFLOW);
    *sum = a + b;
    return OK;
}

static inline u64 subtract(u64 a, u64 b, u64 *difference) {
    REQUIRE(b <= a, ERR_OVERFLOW);
    *difference = a - b;
    return OK;
}

/* `at` + `seconds`, for times after 1970. */
static inline u64 later(i64 at, u64 seconds, i64 *sum) {
    REQUIRE(at >= 0 && seconds <= (u64)(I64_MAX - at), ERR_OVERFLOW);
    *sum = at + (i64)seconds;
    return OK;
}

/* floor(a * b / divisor), with the product in 128 bits: halves multiplied, then divided bit by bit. */
static u64 multiply_divide(u64 a, u64 b, u64 divisor, u64 *quotient) {
    REQUIRE(divisor != 0, ERR_OVERFLOW);
    const u64 half = 0xffffffffULL;
    const u64 low_low = (a & half) * (b & half);
    const u64 high_low = (a >> 32) * (b & half);
    const u64 low_high = (a & half) * (b >> 32);
    const u64 middle = (low_low >> 32) + (high_low & half) + (low_high & half);
    u64 high = (a >> 32) * (b >> 32) + (high_low >> 32) + (low_high >> 32) + (middle >> 32);
    u64 low = (low_low & half) | (middle << 32);
    if (high == 0) {
        *quotient = low / divisor;
        return OK;
    }
    REQUIRE(high < divisor, ERR_OVERFLOW);
    u64 result = 0;
    for (int bit = 0; bit < 64; bit++) {
        const u64 carry = high >> 63;
        high = (high << 1) | (low >> 63);
        low <<= 1;
        result <<= 1;
        if (carry || high >= divisor) {
            high -= divisor;
            result |= 1;
        }
    }
    *quotient = result;
    return OK;
}

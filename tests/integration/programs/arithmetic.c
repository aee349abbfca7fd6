/* Logs what programs/include/arithmetic.h computes: error and result of each operation on three numbers. */
#include "arithmetic.h"

void sol_log_64_(u64, u64, u64, u64, u64);

u64 entrypoint(u8 *input) {
    Call call;
    TRY(parse(input, &call));
    REQUIRE(call.data_len == 24, ERR_INSTRUCTION);
    const u64 a = ((const u64 *)call.data)[0], b = ((const u64 *)call.data)[1], c = ((const u64 *)call.data)[2];
    u64 sum = 0, difference = 0, quotient = 0;
    i64 time = 0;
    sol_log_64_(0, add(a, b, &sum), sum, 0, 0);
    sol_log_64_(1, subtract(a, b, &difference), difference, 0, 0);
    sol_log_64_(2, multiply_divide(a, b, c, &quotient), quotient, 0, 0);
    sol_log_64_(3, later((i64)a, b, &time), (u64)time, 0, 0);
    return OK;
}

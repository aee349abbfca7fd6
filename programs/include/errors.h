/* What a refused instruction answers: a custom error number. cyxwiz/ledger/instructions has the same table. */
#pragma once

enum Error {
    OK = 0,
    ERR_INSTRUCTION = 1,      /* unknown instruction, or its data has another length */
    ERR_ACCOUNT_COUNT = 2,    /* fewer or more accounts than the instruction takes */
    ERR_SIGNER = 3,           /* a signature is missing, or its key is not the one that may do this */
    ERR_NOT_WRITABLE = 4,     /* an account that changes was passed read-only */
    ERR_OWNER = 5,            /* an account belongs to another program */
    ERR_ADDRESS = 6,          /* not the derived or the recorded address */
    ERR_MINT = 7,             /* a token account or mint of another token */
    ERR_TOKEN_ACCOUNT = 8,    /* no usable token account of the one who is to be paid */
    ERR_PROGRAM = 9,          /* not SPL Token, or not the System program */
    ERR_EXISTS = 10,          /* initialised already */
    ERR_NOT_INITIALISED = 11, /* no state of this program in the account */
    ERR_DUPLICATE = 12,       /* one account in two roles that must differ */
    ERR_ARGUMENT = 13,        /* a number out of its bounds */
    ERR_OVERFLOW = 14,        /* arithmetic left 64 bits */
    ERR_STATE = 15,           /* not in this state or mode */
    ERR_TOO_EARLY = 16,       /* its time has not come */
    ERR_TOO_LATE = 17,        /* its time is over */
    ERR_FROZEN = 18,          /* a dispute is open */
    ERR_ALREADY = 19,         /* done before: the total is not above what is recorded */
    ERR_FUNDS = 20,           /* more than there is */
    ERR_RATE = 21,            /* more than the cap allows for the time that has passed */
    ERR_RENT = 22,            /* the rent sysvar has a form this program does not know */
};

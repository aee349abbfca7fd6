// The transaction that a quote offers, read and compared with the quote, number by number, before anything is signed.
// The same as `cyxwiz/client/escrow.py`. Nothing passes but one instruction that makes one escrow, with the quote's
// terms, in accounts that are the quote's. The program itself checks what follows from these: the vault's address, and
// that the money's source is an account of the wallet's and of that mint. Whose `program_id` it is, is the signer's to know.

const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
const SYSTEM_PROGRAM = "1".repeat(32);
const NOBODY = SYSTEM_PROGRAM; // 32 zero bytes: the platform may choose the node
const CREATE = 0n;
const DATA = 160; // bytes of the instruction
const HEADER = "2,1,5"; // signatures; of these and of the other keys, how many are only read
const ROLES = ["payer", "client", "source", "escrow", "vault", "mint", "fee account", "token program", "system program"];
const UNITS = 1_000_000_000n; // of a CYXWIZ

export const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export function base58(bytes) {
  let number = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  let text = "";
  for (; number; number /= 58n) text = ALPHABET[Number(number % 58n)] + text;
  const zeros = bytes.findIndex((byte) => byte !== 0);
  return "1".repeat(zeros < 0 ? bytes.length : zeros) + text;
}

/** Units for an amount such as "1.5"; throws for what is none, or is finer than a unit. */
export function parseUnits(text) {
  const found = /^(\d{1,10})(?:\.(\d{1,9}))?$/.exec(text.trim());
  if (!found) throw new Error(`${text.trim().slice(0, 40) || "Nothing"} is not an amount of CYXWIZ such as 1.5`);
  return BigInt(found[1]) * UNITS + BigInt((found[2] || "").padEnd(9, "0"));
}

export function formatUnits(units) {
  const rest = (units % UNITS).toString().padStart(9, "0").replace(/0+$/, "");
  return (units / UNITS).toString() + (rest && "." + rest);
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }

  take(size) {
    if (this.at + size > this.bytes.length) throw new Error("it is cut off");
    this.at += size;
    return this.bytes.slice(this.at - size, this.at);
  }

  byte() { return this.take(1)[0]; }
  key() { return base58(this.take(32)); }
  u32() { this.take(4); return BigInt(this.view.getUint32(this.at - 4, true)); }
  u64() { this.take(8); return this.view.getBigUint64(this.at - 8, true); }
  i64() { this.take(8); return this.view.getBigInt64(this.at - 8, true); }

  length() { // 1 to 3 bytes of 7 bits each
    let value = 0;
    for (let index = 0; index < 3; index += 1) {
      const byte = this.byte();
      value |= (byte & 0x7f) << (7 * index);
      if (!(byte & 0x80)) return value;
    }
    throw new Error("a length is too long");
  }
}

function same(what, found, said) {
  if (found !== said) throw new Error(`its ${what} is ${found}, not ${said}`);
}

function whole(value) {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${value} is no whole number that this page can compare`);
  return BigInt(value);
}

/** A message of the first kind: 3 bytes, keys, a blockhash and instructions (the program's place, places of accounts, data). */
function read(bytes) {
  const reader = new Reader(bytes);
  const header = [...reader.take(3)].join();
  const keys = Array.from({length: reader.length()}, () => reader.key());
  const blockhash = reader.key();
  same("number of instructions", reader.length(), 1);
  const program = keys[reader.byte()];
  const accounts = Array.from({length: reader.length()}, () => keys[reader.byte()]);
  const data = reader.take(reader.length());
  same("end", bytes.length, reader.at);
  return {header, keys, blockhash, program, accounts, data};
}

/** `create` of the escrow program; the layout stands in `cyxwiz/ledger/instructions/escrow.py`. */
function create(data) {
  same("length", data.length, DATA);
  const reader = new Reader(data);
  same("step", reader.u64(), CREATE);
  const job = hex(reader.take(16)).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  return {
    job, amount: reader.u64(), deadline: reader.i64(), cap: reader.u64(), interval: reader.u32(), window: reader.u32(),
    fee_bps: reader.u64(), node: reader.key(), platform: reader.key(), arbiter: reader.key(),
  };
}

function compared(bytes, quote) {
  const said = quote.escrow;
  const found = read(bytes);
  same("program", found.program, said.program_id);
  const terms = create(found.data);
  same("job", terms.job, quote.id);
  same("amount", terms.amount, whole(said.amount_units));
  same("price", terms.amount, whole(quote.amount_units));
  same("price in CYXWIZ", formatUnits(terms.amount), quote.amount);
  same("deadline", terms.deadline, whole(said.deadline_seconds));
  same("deadline", terms.deadline, BigInt(Math.floor(Date.parse(quote.deadline) / 1000)));
  same("cap", terms.cap, whole(said.cap_units));
  same("interval", terms.interval, whole(said.interval_seconds));
  same("dispute window", terms.window, whole(said.window_seconds));
  same("fee", terms.fee_bps, whole(said.fee_bps));
  same("fee", terms.fee_bps, whole(quote.fee_bps));
  same("node", terms.node, NOBODY);
  same("platform", terms.platform, said.platform);
  same("arbiter", terms.arbiter, said.arbiter);
  same("number of accounts", found.accounts.length, ROLES.length);
  const accounts = Object.fromEntries(ROLES.map((role, place) => [role, found.accounts[place]]));
  for (const [role, expected] of [
    ["payer", said.platform], ["client", quote.wallet_address], ["escrow", said.account], ["mint", said.mint],
    ["fee account", said.fee_account], ["token program", TOKEN_PROGRAM], ["system program", SYSTEM_PROGRAM],
  ]) same(role, accounts[role], expected);
  same("number of keys", new Set(found.keys).size, ROLES.length + 1);
  same("header", found.header, HEADER);
  same("first key", found.keys[0], said.platform);
  same("second key", found.keys[1], quote.wallet_address);
  return {...terms, program: found.program, accounts, blockhash: found.blockhash};
}

/** {message: its bytes, terms: what they say}. Throws, saying what differs, unless that is what the quote says, for this
 *  wallet, and costs no more than `limit` units. */
export function checked(quote, wallet, limit) {
  if (quote.wallet_address !== wallet) throw new Error(`The quote is for the wallet ${quote.wallet_address}, not for ${wallet}; nothing was signed`);
  let message, terms;
  try {
    message = Uint8Array.from(atob(quote.message), (letter) => letter.charCodeAt(0));
    terms = compared(message, quote);
  } catch (error) {
    throw new Error(`The quote's transaction is not what the quote says: ${error.message}; nothing was signed`);
  }
  if (terms.amount > limit) {
    throw new Error(`The quote locks ${formatUnits(terms.amount)} CYXWIZ, more than your limit of ${formatUnits(limit)}; nothing was signed`);
  }
  if (terms.deadline * 1000n <= BigInt(Date.now())) throw new Error("The quote's deadline is over; nothing was signed");
  return {message, terms};
}

/** The transaction in base64: places for the platform's signature and the wallet's, the wallet's filled, and the message. */
export function transaction(message, signature) {
  const whole = new Uint8Array([2, ...new Uint8Array(64), ...signature, ...message]);
  return btoa(String.fromCharCode(...whole));
}

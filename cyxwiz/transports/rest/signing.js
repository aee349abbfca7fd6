// A wallet's keypair file, as Solana's tools write it: a JSON array of 64 numbers, the seed and then the public key.
// The seed is read, handed to the browser's WebCrypto as a key that can't be read back, and overwritten. Nothing is
// stored or sent but signatures; `forget` drops the key.

import {api} from "./base.js";
import {base58, hex} from "./escrow.js";

const SEED = 32, WHOLE = 64, MOST = 4096; // bytes
// PKCS #8 of an Ed25519 key (RFC 8410), up to the seed.
const PKCS8 = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const ELSEWHERE = "`cyxwiz submit JOB --wallet FILE` signs as well";

async function numbersOf(file) {
  let numbers = null;
  try {
    if (file.size <= MOST) numbers = JSON.parse(await file.text());
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw new Error(`${file.name} can't be read: ${error.message}`);
  }
  const bytes = Array.isArray(numbers) && numbers.every((each) => Number.isInteger(each) && each >= 0 && each <= 255);
  if (!bytes || numbers.length !== WHOLE) {
    throw new Error(`${file.name} is no keypair file: it must hold a JSON array of ${WHOLE} numbers from 0 to 255`);
  }
  return numbers;
}

async function imported(numbers) {
  if (!globalThis.crypto || !crypto.subtle) {
    throw new Error(`This browser signs only on pages that come over https or from this machine; ${ELSEWHERE}`);
  }
  const seed = new Uint8Array([...PKCS8, ...numbers.slice(0, SEED)]);
  try {
    return await Promise.all([
      crypto.subtle.importKey("pkcs8", seed, "Ed25519", false, ["sign"]),
      crypto.subtle.importKey("raw", new Uint8Array(numbers.slice(SEED)), "Ed25519", true, ["verify"]),
    ]);
  } catch (error) {
    if (error.name !== "NotSupportedError") throw new Error("This keypair file is damaged: its halves are no keys");
    throw new Error(`This browser has no Ed25519, by which wallets sign: use a newer one; ${ELSEWHERE}`);
  } finally {
    seed.fill(0);
  }
}

/** The keypair in a file: its `address`, `sign(bytes)` and `forget()`. Throws for what is none, or is damaged. */
export async function openKeypair(file) {
  const numbers = await numbersOf(file);
  const address = base58(numbers.slice(SEED));
  let [secret, open] = [null, null];
  try {
    [secret, open] = await imported(numbers);
  } finally {
    numbers.fill(0);
  }
  const probe = crypto.getRandomValues(new Uint8Array(32));
  const signature = await crypto.subtle.sign("Ed25519", secret, probe);
  if (!(await crypto.subtle.verify("Ed25519", open, signature, probe))) {
    throw new Error(`${file.name} is damaged: its public half does not belong to its secret half`);
  }
  return {
    address,
    async sign(bytes) {
      if (secret === null) throw new Error("The key was forgotten: choose its file again");
      return new Uint8Array(await crypto.subtle.sign("Ed25519", secret, bytes));
    },
    forget() { secret = null; },
  };
}

/** An access token for the user of the wallet in a file. Signs only what signs in, here, by this nonce. */
export async function walletLogin(file) {
  const keypair = await openKeypair(file);
  try {
    const wallet_address = keypair.address;
    const [platform, asked] = await Promise.all([
      api("GET", "/api/platform"), api("POST", "/api/auth/wallet/nonce", {wallet_address, purpose: "login"})]);
    const said = `Sign in to CyxWiz.\nWallet: ${wallet_address}\nPlatform: ${platform.public_key}\nNonce: ${asked.nonce}`;
    if (asked.message !== said || !/^[0-9a-f.]{1,200}$/.test(asked.nonce)) {
      throw new Error("Central asked to sign something else than a sign-in; nothing was signed");
    }
    const signature = hex(await keypair.sign(new TextEncoder().encode(said)));
    return (await api("POST", "/api/auth/wallet/login", {wallet_address, nonce: asked.nonce, signature})).access_token;
  } finally {
    keypair.forget();
  }
}

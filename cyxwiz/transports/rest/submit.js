// Submitting a job from the page: paid out of the balance or, where the ledger takes signatures, with a key of one's own.
// With a key: central quotes, the page shows what the transaction itself says, and signs just that. Whatever is changed
// after that needs a new quote.

import {$, Refused, api, el, problem} from "./base.js";
import {checked, formatUnits, hex, parseUnits, transaction} from "./escrow.js";
import {openKeypair} from "./signing.js";

const EXAMPLE = {
  name: "digits", dataset: "builtin:digits", epochs: 20, batch_size: 64,
  model: {layers: [{type: "dense", units: 64}, {type: "relu"}, {type: "dense", units: 10}]},
  resources: {max_duration: "10m"},
};

let keypair = null;
let offer = null; // {job, quote, terms, limit, until}: what is shown
let unanswered = null; // {content, job, key}: what was submitted last, while no answer to it has come

const withKey = () => !$("pay").hidden && $("pay-key").checked;

/** Throws unless the text is a job whose numbers the page holds exactly. */
function jobOf(text) {
  let job;
  try {
    job = JSON.parse(text, (name, value) => {
      if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
        throw new RangeError(`${name}: ${value} is larger than this page can hold: use the command line`);
      }
      return value;
    });
  } catch (error) {
    if (error instanceof RangeError) throw error;
    throw new Error(`This is not a job file as JSON: ${error.message}. One in TOML or YAML goes by: cyxwiz submit FILE`);
  }
  if (job === null || typeof job !== "object" || Array.isArray(job)) throw new Error("A job file must hold fields: name, dataset, model and so on");
  const limit = $("max-price").value.trim();
  return limit ? {...job, payment: {...job.payment, max_price: formatUnits(parseUnits(limit))}} : job;
}

function limitOf(job) {
  const said = job.payment?.max_price ?? "0";
  const limit = parseUnits(String(said));
  if (!limit) throw new Error("Say what the job may cost at most: the page signs nothing above it");
  return limit;
}

function discard() {
  offer = null;
  $("review").hidden = true;
  $("review-facts").replaceChildren();
  $("ask").hidden = false;
}

function drop() {
  discard();
  if (keypair) keypair.forget();
  keypair = null;
  $("keypair-address").textContent = "";
}

/** Drops the wallet's key, and what it was to sign; its file has to be chosen anew. */
export function forget() {
  drop();
  $("keypair").value = "";
}

/** Runs one step of the form; what goes wrong is said under it. */
async function step(act) {
  const buttons = $("submit-form").querySelectorAll("button");
  problem($("submit-error"), "");
  $("submit-done").hidden = true;
  for (const button of buttons) button.disabled = true;
  try {
    await act();
  } catch (error) {
    problem($("submit-error"), error.message);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

/** What the form asks for, as text: while it stays the same, one job is made of it until an answer has come. */
const contentOf = (job) => JSON.stringify([withKey(), job]);

/** Submits a job; what found no answer before is sent again as it was, by its key, for it may have arrived. */
async function post(content, job) {
  if (unanswered?.content !== content) {
    unanswered = {content, job, key: hex(crypto.getRandomValues(new Uint8Array(16)))};
  }
  let made;
  try {
    made = await api("POST", "/api/jobs", unanswered.job, {"Idempotency-Key": unanswered.key});
  } catch (error) {
    if (!(error instanceof Refused)) {
      throw new Error(`${error.message}: whether the job has arrived is not known. Press the button again with the same job: that makes no second one`);
    }
    if (error.status < 500 && !error.retryable) unanswered = null;
    throw error;
  }
  unanswered = null;
  $("submit-done").textContent = `Job ${made.id} is submitted` + (made.phase === "awaiting_payment" ? "; it starts once its money is locked." : ".");
  $("submit-done").hidden = false;
}

async function choose() {
  drop();
  const [file] = $("keypair").files;
  if (!file) return;
  try {
    keypair = await openKeypair(file);
    $("keypair-address").textContent = keypair.address;
  } catch (error) {
    forget(); // the same file, once mended, can be chosen again
    throw error;
  }
}

async function ask() {
  const job = jobOf($("job-text").value);
  const content = contentOf(job);
  if (!withKey() || unanswered?.content === content) {
    await post(content, job);
    return;
  }
  discard();
  const limit = limitOf(job);
  if (!keypair) throw new Error("Choose your keypair file first");
  const wallet_address = keypair.address;
  const quote = await api("POST", "/api/jobs/quote", {job, wallet_address});
  const until = Date.now() + Date.parse(quote.expires_at) - Date.parse(quote.created_at); // by this machine's clock
  const {terms} = checked(quote, wallet_address, limit);
  const holds = await api("GET", "/api/wallet?" + new URLSearchParams({address: wallet_address}));
  if (BigInt(holds.balance_units) < terms.amount) {
    throw new Error(`The wallet's balance is too low: it holds ${holds.balance} CYXWIZ, ${formatUnits(terms.amount)} are to be locked; nothing was signed`);
  }
  offer = {job, quote, terms, limit, until};
  show(holds.balance);
}

function show(balance) {
  const {quote, terms, limit, until} = offer;
  const fee = formatUnits((terms.amount * terms.fee_bps) / 10_000n);
  const mono = (text) => el("span", {class: "mono"}, text);
  const pace = terms.interval ? `at most ${formatUnits(terms.cap)} CYXWIZ in ${terms.interval} s, as progress is accepted` : "once, at the end";
  const pairs = [
    ["Locks", el("strong", {}, `${formatUnits(terms.amount)} CYXWIZ`), `${terms.amount} units; your limit is ${formatUnits(limit)}, the wallet holds ${balance}`],
    ["Fee", `${Number(terms.fee_bps) / 100} % of what is paid out`, `at most ${fee} CYXWIZ, within the amount`],
    ["Paid", pace, "the rest comes back to your wallet"],
    ["Deadline", new Date(Number(terms.deadline) * 1000).toLocaleString(), "from then on you can take back what was not paid out"],
    ["Node", "open", "the platform chooses it"],
    ["Your wallet", mono(terms.accounts.client)],
    ["Platform", mono(terms.platform), "pays the transaction's own fees"],
    ["Mint", mono(terms.accounts.mint)],
    ["Program", mono(terms.program), `on ${quote.network}: the page can't know whose it is`],
    ["Job", mono(terms.job)],
    ["Sign by", new Date(until).toLocaleTimeString(), "its blockhash is good for about a minute; later, ask again"],
  ];
  const others = [
    ["arbiter", `${terms.arbiter} (disputes of ${terms.window} s)`],
    ...Object.entries(terms.accounts).map(([role, address]) => [role, address]),
    ["blockhash", terms.blockhash],
  ];
  $("review-facts").replaceChildren(
    el("dl", {class: "facts"}, pairs.map(([name, value, why]) => [el("dt", {}, name), el("dd", {}, value, why && el("span", {class: "sub"}, why))])),
    el("details", {class: "accounts"}, el("summary", {}, "Every account in it"),
      el("dl", {class: "facts mono"}, others.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]))));
  $("review").hidden = false;
  $("ask").hidden = true;
  $("review").focus({preventScroll: true});
  $("review").scrollIntoView({block: "nearest"});
}

async function sign() {
  const {job, quote, until, limit} = offer;
  if (Date.now() >= until) {
    discard();
    throw new Error("The quote has expired: ask for a new one; nothing was signed");
  }
  const content = contentOf(job);
  const {message} = checked(quote, keypair.address, limit);
  const signed = transaction(message, await keypair.sign(message));
  forget();
  await post(content, {...job, payment: {...job.payment, quote: quote.id, transaction: signed}});
}

function showWays() {
  forget();
  $("own-key").hidden = !withKey();
  $("ask").textContent = withKey() ? "Ask for a quote" : "Submit";
}

/** Shows the form; the choice of a key where the ledger has a program that takes signatures. */
export async function offerToSubmit() {
  const {ledger} = await api("GET", "/api/platform");
  $("pay").hidden = !(ledger && ledger.program_id);
  showWays();
}

$("submit-form").addEventListener("submit", (event) => { event.preventDefault(); step(ask); });
$("keypair").addEventListener("change", () => step(choose));
$("sign").addEventListener("click", () => step(sign));
$("discard").addEventListener("click", forget);
$("example").addEventListener("click", () => { discard(); $("job-text").value = JSON.stringify(EXAMPLE, null, 2); });
for (const name of ["pay-balance", "pay-key"]) $(name).addEventListener("change", showWays);
window.addEventListener("pagehide", forget); // a page may be kept in memory and come back
for (const name of ["job-text", "max-price"]) $(name).addEventListener("input", discard);
$("job-file").addEventListener("change", () => step(async () => {
  discard();
  const [file] = $("job-file").files;
  if (file) $("job-text").value = await file.text();
}));

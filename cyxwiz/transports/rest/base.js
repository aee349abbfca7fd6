// What every script of the page needs: elements, and calls of the API with the key of this tab.
// All text from the server goes into text nodes, never into markup: names of jobs and nodes are other people's input.

export const OPEN = document.body.dataset.open === "yes";
export const KEY = "cyxwiz.key";

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) made.append(child);
  }
  return made;
}

export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.retryable = error.retryable;
  }
}

async function request(method, path, body, more) {
  const headers = {...more};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = "Bearer " + key;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const asked = fetch(path, {method, headers, body: body === undefined ? undefined : JSON.stringify(body)});
  const response = await asked.catch((error) => { throw new Error("Central does not answer", {cause: error}); });
  if (!response.ok) {
    const said = await response.json().catch(() => ({})); // a proxy before central answers in words of its own
    throw new Refused(response.status, said.error || {message: `No answer from central (${response.status})`});
  }
  return response;
}

/** Calls the API, with `more` headers where they are given. Throws `Refused` for what central refuses. */
export async function api(method, path, body, more) {
  return (await request(method, path, body, more)).json();
}

/** Has the browser save what is at `path`: by a request with the key in its header, for no address may hold it. */
export async function save(path, name) {
  const response = await request("GET", path);
  const address = URL.createObjectURL(await response.blob());
  const link = el("a", {href: address, download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Does what a button is for, once at a time. The button keeps the focus, which a disabled one would lose. */
export async function once(button, act) {
  if (button.ariaDisabled) return;
  button.ariaDisabled = "true";
  try {
    await act();
  } finally {
    button.ariaDisabled = null;
  }
}

const reached = (within) => [...within.querySelectorAll("button, [tabindex]")];

/** Gives an element the children of another. Those that are the same stay, with the focus and what is selected in them. */
export function renew(old, made) {
  const there = [...old.children];
  const given = [...made.children];
  for (const child of there.slice(given.length)) child.remove();
  given.forEach((child, at) => {
    if (at >= there.length) old.append(child);
    if (at >= there.length || there[at].isEqualNode(child)) return;
    const focused = reached(there[at]).indexOf(document.activeElement);
    there[at].replaceWith(child);
    if (focused >= 0) (reached(child)[focused] || reached(old)[0])?.focus();
  });
}

/** Gives a table's body these rows, each known by its `data-key`: those that are there already are renewed in place. */
export function arrange(body, rows) {
  const there = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const wanted = rows.map((row) => {
    const old = there.get(row.dataset.key) || row;
    there.delete(row.dataset.key);
    if (old !== row) renew(old, row);
    return old;
  });
  for (const row of there.values()) row.remove();
  // A row that is moved loses the focus: only those that stand elsewhere are.
  wanted.forEach((row, at) => { if (body.children[at] !== row) body.insertBefore(row, body.children[at] || null); });
}

export function problem(where, message) {
  where.textContent = message;
  where.hidden = !message;
}

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
  const response = await fetch(path, {method, headers, body: body === undefined ? undefined : JSON.stringify(body)});
  if (!response.ok) throw new Refused(response.status, (await response.json()).error);
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

export function problem(where, message) {
  where.textContent = message;
  where.hidden = !message;
}

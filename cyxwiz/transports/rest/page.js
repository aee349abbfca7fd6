// The board: figures, jobs and nodes, kept current by the event stream; and signing in.

import {$, KEY, OPEN, api, arrange, el, once, problem, renew, save} from "./base.js";
import {chart} from "./chart.js";
import {walletLogin} from "./signing.js";
import {forget, offerToSubmit} from "./submit.js";
import {ago, amount, figure, percent, size, span} from "./words.js";

const PAGE = 50; // jobs that "Show more" adds
const MOST = 100; // jobs or nodes of one answer
const ANSWERS = 20; // of nodes that are shown of one job
const ENDED = new Set(["completed", "failed", "cancelled"]);
const MAX_POINTS = 2000;
const MAX_LINES = 200;

let jobs = new Map(); // id -> job, in the order of the list
let nodes = new Map();
let wanted = PAGE; // jobs that the list is to show
let total = 0;
let nodePages = 1; // of nodes that the list is to show
let stats = null;
let balance = null; // CYXWIZ, as text
let expanded = null; // {id, points, lines, nextPoint, nextLine, result, explain}
let stream = null;
let retry = 0; // how often in a row it failed
let retrying = 0; // the timer of the next try

/** False once one has left: what was on its way then is nobody's any more. */
const mayAsk = () => OPEN || sessionStorage.getItem(KEY) !== null;

let toastTimer = 0;
function tell(error) {
  if (!mayAsk()) return;
  if (error.status === 401) return signIn(error.message);
  $("toast").textContent = error.message;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

function live(state, text) {
  if ($("live").textContent !== text) $("live").textContent = text;
  $("live").dataset.state = state;
}

const pathOf = (id) => `/api/jobs/${encodeURIComponent(id)}`;
const badge = (status) => el("span", {class: "badge", "data-is": status}, status);
const when = (text) => el("time", {datetime: text || "", title: text ? new Date(text).toLocaleString() : ""}, ago(text));

// figures

function showStats(given) {
  stats = given || stats;
  if (!stats) return;
  const tiles = [
    ["Nodes online", stats.online_nodes, "of " + stats.total_nodes],
    ["Running", stats.running_jobs, [["assigned", stats.assigned_jobs], ["paused", stats.paused_jobs]]
      .filter(([, count]) => count).map(([name, count]) => `+ ${count} ${name}`).join(" ")],
    ["Pending", stats.pending_jobs],
    ["Completed", stats.completed_jobs],
    ["Failed", stats.failed_jobs],
    stats.total_compute_hours < 1
      ? ["Compute", (stats.total_compute_hours * 60).toFixed(1), "min"]
      : ["Compute", stats.total_compute_hours.toFixed(1), "hours"],
    balance && ["Balance (CYXWIZ)", amount(balance), "", balance],
  ].filter(Boolean);
  $("stats").replaceChildren(...tiles.map(([name, value, unit, whole]) =>
    el("div", {}, el("dt", {}, name), el("dd", {title: whole}, String(value), unit && el("small", {}, " " + unit)))));
}

async function loadBalance() {
  try {
    balance = (await api("GET", "/api/wallet")).balance;
  } catch (error) {
    if (error.status === 401) throw error;
    balance = null; // no ledger, or none that can be asked now
  }
  showStats();
}

// jobs

/** Whether a job's `reason` says what it waits for. */
const waits = (job) => ["pending", "paused"].includes(job.status) || job.intent === "pause";

function nodeName(id) {
  if (!id) return el("span", {class: "dim"}, "–");
  const node = nodes.get(id);
  return el("span", {title: id}, node ? node.name : id.slice(0, 8));
}

function jobRow(job) {
  const opened = expanded !== null && expanded.id === job.id;
  const why = job.error ? job.error.message : waits(job) || job.status === "cancelled" ? job.reason : "";
  const label = job.progress >= 1 ? "100 %" : Math.floor(job.progress * 100) + " %";
  return el("tr", {"data-key": job.id},
    el("td", {class: "all"},
      el("button", {class: "name", type: "button", "aria-expanded": String(opened), onclick: () => toggle(job.id)}, el("span", {}, job.name || "unnamed")),
      el("span", {class: "sub mono id", title: job.id}, job.id.slice(0, 8))),
    el("td", {class: "all"}, badge(job.status),
      ["assigned", "running"].includes(job.status) && job.phase && el("span", {class: "sub"}, job.phase.replace("_", " ")),
      why && el("span", {class: "sub why", title: why}, why)),
    el("td", {class: "wide all"},
      el("span", {class: "sub"}, `${label} · epoch ${job.current_epoch} of ${job.epochs}`),
      el("progress", {max: 1, value: job.progress, "data-is": job.status, "aria-label": `Progress of ${job.name || job.id}`})),
    el("td", {class: "num", "data-label": "Train loss"}, job.job_type === "training" ? figure(job.metrics.loss, 3) : "–"),
    el("td", {class: "num", "data-label": "Val accuracy"}, percent(job.metrics.val_accuracy)),
    el("td", {class: "short", "data-label": "Node"}, nodeName(job.assigned_node_id)),
    el("td", {class: "num less", title: `${job.retry_count} failures charged, ${job.node_losses} nodes lost`}, String(job.attempts)),
    el("td", {class: "less once"}, when(job.created_at)),
    el("td", {class: "num all actions"}, actions(job)));
}

function actions(job) {
  if (ENDED.has(job.status)) return null;
  const verb = job.status === "paused" || job.intent === "pause" ? "Resume" : "Pause";
  const act = (word, kind, run) =>
    el("button", {class: kind, type: "button", "aria-label": `${word} ${job.name || job.id}`, onclick: (event) => run(job.id, event.currentTarget)}, word);
  return [
    act(verb, "quiet", (id, button) => order(id, button, verb.toLowerCase())),
    act("Cancel", "quiet danger", cancel),
  ];
}

function rowOf(id) {
  return $("job-rows").querySelector(`tr[data-key="${CSS.escape(id)}"]`);
}

function showJob(job) {
  jobs.set(job.id, job);
  const row = rowOf(job.id);
  if (!row) return;
  renew(row, jobRow(job));
  if (expanded && expanded.id === job.id) showDetail();
}

/** The row under a job's; while it is that job's, the one that is there. */
function detailRow(id) {
  const there = $("detail");
  if (there && there.dataset.key === `detail ${id}`) return there;
  return el("tr", {class: "detail", id: "detail", "data-key": `detail ${id}`}, el("td", {colspan: 9}, el("div", {class: "panes"})));
}

function showJobs() {
  if (expanded && !jobs.has(expanded.id)) expanded = null;
  const opened = expanded && expanded.id;
  arrange($("job-rows"), [...jobs.values()].flatMap((job) => (job.id === opened ? [jobRow(job), detailRow(opened)] : [jobRow(job)])));
  showDetail();
  const filtered = $("find").value || $("status").value;
  $("jobs").hidden = jobs.size === 0;
  $("no-jobs").hidden = jobs.size > 0;
  $("foot").hidden = jobs.size === 0;
  $("job-count").textContent = jobs.size ? `${jobs.size} of ${total}` : "";
  $("more").hidden = jobs.size >= total;
  if (jobs.size === 0) {
    $("no-jobs").replaceChildren(...(filtered
      ? [el("strong", {}, "No job matches"), "Clear the name and the status to see all."]
      : [el("strong", {}, "No jobs yet"), "Submit one above, or from a terminal:", el("br"),
        el("pre", {class: "command"}, "cyxwiz submit job.toml --watch")]));
  }
}

function filter() {
  const query = new URLSearchParams();
  if ($("find").value) query.set("name", $("find").value);
  if ($("status").value) query.set("status", $("status").value);
  return query;
}

/** Fetches and shows the first `wanted` jobs of those asked for. */
async function fetchJobs() {
  const query = filter();
  const asked = query.toString();
  const found = new Map();
  let answer;
  do {
    query.set("limit", String(Math.min(wanted - found.size, MOST)));
    answer = await api("GET", "/api/jobs?" + query);
    for (const job of answer.jobs) found.set(job.id, job);
    if (answer.next_cursor) query.set("cursor", answer.next_cursor);
  } while (answer.next_cursor && found.size < wanted);
  if (filter().toString() !== asked) return; // the new one is asked for next
  jobs = found;
  total = answer.total;
  showJobs();
}

let listing = null;
let stale = false;
/** Brings the list up to date. Once at a time: what comes up while an answer is on its way is asked for after it. */
function loadJobs() {
  stale = true;
  listing ??= (async () => {
    try {
      while (stale) {
        stale = false;
        await fetchJobs();
      }
    } finally {
      listing = null;
    }
  })();
  return listing;
}

function loadFiltered() {
  wanted = PAGE;
  loadJobs().catch(tell);
}

async function cancel(id, button) {
  if (!window.confirm("Cancel this job? What it has learnt so far is lost.")) return;
  await order(id, button, "cancel", {reason: "cancelled on the page"});
}

async function order(id, button, verb, body) {
  await once(button, async () => showJob(await api("POST", `${pathOf(id)}/${verb}`, body))).catch(tell);
}

// one job

function toggle(id) {
  const same = expanded && expanded.id === id;
  expanded = same ? null : {id, points: [], lines: [], nextPoint: 0, nextLine: 0, result: null, explain: null, busy: false};
  showJobs();
  const row = rowOf(id);
  if (row) row.querySelector(".name").focus();
  if (expanded) follow();
}

async function follow() {
  const mine = expanded;
  if (!mine || mine.busy) return;
  mine.busy = true;
  const path = pathOf(mine.id);
  try {
    for (;;) {
      const [curve, log] = await Promise.all([
        api("GET", `${path}/metrics?after=${mine.nextPoint}`), api("GET", `${path}/logs?after=${mine.nextLine}`)]);
      mine.points = mine.points.concat(curve.metrics).slice(-MAX_POINTS);
      mine.lines = mine.lines.concat(log.logs).slice(-MAX_LINES);
      mine.nextPoint = curve.next_after;
      mine.nextLine = log.next_after;
      if (curve.metrics.length < 1000 && log.logs.length < 1000) break;
    }
    const job = jobs.get(mine.id);
    if (job && job.status === "completed" && !mine.result) mine.result = await api("GET", `${path}/result`);
    if (job && job.status === "pending") mine.explain = await api("GET", `${path}/explain`);
    else mine.explain = null;
    if (expanded === mine) showDetail();
  } catch (error) {
    if (expanded === mine) tell(error);
  } finally {
    mine.busy = false;
  }
}

function download(text, path, name, note) {
  const get = (event) => once(event.currentTarget, () => save(path, name)).catch(tell);
  return el("span", {class: "download"}, el("button", {class: "link", type: "button", onclick: get}, text), note && el("span", {class: "dim"}, ` (${note})`));
}

/** What an evaluation and its like found, without the figures of each class, which its file has. */
function figures(metrics) {
  const names = Object.keys(metrics).filter((name) => !/^(precision|recall|f1)_class_\d+$/.test(name));
  return names.sort().map((name) => `${name} ${figure(metrics[name], 4)}`).join(", ");
}

function facts(job) {
  const pairs = [
    ["Id", el("span", {class: "mono"}, job.id)],
    ["Data set", job.dataset_uri],
    ["Node", job.assigned_node_id ? nodeName(job.assigned_node_id) : null],
    ["Attempts", `${job.attempts} (${job.retry_count} failures charged, ${job.node_losses} nodes lost)`],
    ["Submitted", new Date(job.created_at).toLocaleString()],
    ["Started", job.started_at ? new Date(job.started_at).toLocaleString() : null],
    ["Ended", job.completed_at ? new Date(job.completed_at).toLocaleString() : null],
    ["Compute", job.compute_seconds ? span(job.compute_seconds) : null],
    ["Cost", ENDED.has(job.status) ? `${job.actual_cost} CYXWIZ` : `at most ${job.estimated_cost} CYXWIZ`],
    ["Waits", waits(job) ? job.reason : null],
    ["Reason", job.status === "cancelled" ? job.reason : null],
    ["Error", job.error ? `${job.error.code ? job.error.code + ": " : ""}${job.error.message}` : null],
  ];
  const result = expanded.result;
  if (result) {
    if (job.job_type !== "training") pairs.push(["Figures", figures(job.metrics)]);
    const weights = !result.files.length || result.files[0].name.endsWith(".safetensors");
    pairs.push([weights ? "Model" : "First file", result.model_weights_hash ? el("span", {class: "mono"}, result.model_weights_hash) : null]);
    pairs.push(["Files", !result.files.length ? "with its node" : result.files.map((file) => download(file.name, `/api/blobs/${file.sha256}`, file.name, size(file.size)))]);
  }
  if (ENDED.has(job.status)) pairs.push(["Receipt", download("receipt.json", `${pathOf(job.id)}/receipt`, `receipt-${job.id}.json`)]);
  return el("dl", {class: "facts"}, pairs.filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function verdicts() {
  const explain = expanded.explain;
  if (!explain) return el("div", {hidden: true});
  const answers = explain.nodes.length
    ? el("dl", {class: "facts"}, explain.nodes.slice(0, ANSWERS).map((node) => [el("dt", {}, node.name), el("dd", {}, node.feasible ? "could take it" : node.reason)]),
        explain.nodes.length > ANSWERS && [el("dt", {}, "…"), el("dd", {}, `and ${explain.nodes.length - ANSWERS} more`)])
    : el("p", {class: "dim"}, "No node has joined. Make a token with ", el("code", {}, "cyxwiz node token create"), ".");
  const ahead = explain.jobs_ahead === 1 ? "1 job" : `${explain.jobs_ahead} jobs`;
  return el("div", {class: "pane full"}, el("h3", {}, `What the nodes say · ${ahead} ahead`), answers);
}

function showDetail() {
  const job = expanded && jobs.get(expanded.id);
  if (!job) return;
  const panes = $("detail").querySelector(".panes");
  const old = panes.querySelector(".logs");
  const atEnd = !old || old.scrollTop + old.clientHeight >= old.scrollHeight - 8;
  const kept = old ? old.scrollTop : 0;
  const lines = expanded.lines.map((each) => el("span", {class: each.level}, each.message + "\n"));
  const logs = el("pre", {class: "logs", tabindex: 0, "aria-label": "Log"}, lines.length ? lines : "No log lines.");
  renew(panes, el("div", {},
    el("div", {class: "pane"}, el("h3", {}, "Details"), facts(job)),
    el("div", {class: "pane"}, el("h3", {}, "Curve"), chart(expanded.points, ENDED.has(job.status))),
    verdicts(),
    el("div", {class: "pane full"}, el("h3", {}, "Log"), logs)));
  const shown = panes.querySelector(".logs");
  shown.scrollTop = atEnd ? shown.scrollHeight : kept;
}

// nodes

function nodeRow(node) {
  const devices = node.devices.filter((device) => device.device_type !== "cpu").map((device) => device.name);
  const hardware = `${node.cpu_cores} cores · ${size(node.ram_total_bytes)} RAM`;
  return el("tr", {"data-key": node.id},
    el("td", {class: "all"}, el("strong", {}, node.name), el("span", {class: "sub mono", title: node.id}, node.id.slice(0, 8) + (node.region ? " · " + node.region : ""))),
    el("td", {class: "all"}, badge(node.status)),
    el("td", {class: "all"}, devices.length ? devices.join(", ") : node.cpu_model || "CPU", el("span", {class: "sub"}, hardware)),
    el("td", {class: "wide all"}, el("span", {class: "sub"}, `${node.load} of ${node.max_concurrent_jobs} slots`),
      el("progress", {max: 1, value: node.current_load, "aria-label": `Load of ${node.name}`})),
    el("td", {class: "num", "data-label": "Reputation"}, percent(node.reputation)),
    el("td", {class: "num", "data-label": "Done"}, String(node.jobs_completed)),
    el("td", {class: "num", "data-label": "Failed"}, String(node.jobs_failed)),
    el("td", {"data-label": "Seen"}, ["offline", "banned"].includes(node.status) ? when(node.last_seen_at) : "now"));
}

async function loadNodes() {
  const pages = Array.from({length: nodePages}, (_, at) => api("GET", `/api/nodes?limit=${MOST}&page=${at + 1}`));
  const answers = await Promise.all(pages);
  nodes = new Map(answers.flatMap((answer) => answer.nodes).map((node) => [node.id, node]));
  arrange($("node-rows"), [...nodes.values()].map(nodeRow));
  $("nodes").hidden = nodes.size === 0;
  $("no-nodes").hidden = nodes.size > 0;
  $("nodes-foot").hidden = nodes.size === 0;
  $("node-count").textContent = `${nodes.size} of ${answers[0].total}`;
  $("more-nodes").hidden = nodes.size >= answers[0].total;
  $("no-nodes").replaceChildren(el("strong", {}, "No nodes yet"), "Make a join token here, then start a node with it on any machine that reaches this one:", el("br"),
    el("pre", {class: "command"}, "cyxwiz node token create\nCYXWIZ_NODE__JOIN_TOKEN=… cyxwiz run --role node --set node.central=HOST:PORT"));
}

// live

const due = new Map();
function soon(name, act) {
  if (due.has(name)) return;
  due.set(name, setTimeout(() => {
    due.delete(name);
    act().catch(tell);
  }, 250));
}

function refreshJob(id) {
  soon("job:" + id, async () => {
    try {
      showJob(await api("GET", pathOf(id)));
    } catch (error) {
      if (error.status !== 404 && error.status !== 403) throw error;
      await loadJobs();
    }
    if (expanded && expanded.id === id) follow();
  });
}

function onNote(note) {
  const data = note.data;
  if (note.type === "stats") showStats(data);
  else if (note.type === "lagged" || note.type === "reset") soon("all", loadAll);
  else if (note.type === "job.submitted") {
    if (expanded) wanted += 1; // what is open is not to fall off the end
    soon("jobs", loadJobs);
  } else if (note.type === "job.progress") {
    const job = jobs.get(data.job_id);
    if (!job) return;
    showJob({...job, status: "running", progress: data.progress, current_epoch: data.current_epoch, phase: data.phase, metrics: data.metrics});
    if (expanded && expanded.id === job.id) soon("detail", follow);
  } else if (note.type.startsWith("job.")) {
    refreshJob(data.job_id);
    if (note.type === "job.payment") soon("balance", loadBalance);
    soon("nodes", loadNodes); // a lease changes a node's load
  } else if (note.type.startsWith("node.")) soon("nodes", loadNodes);
}

let lastSeq = null;
async function connect() {
  const {ticket} = await api("POST", "/api/tickets");
  if (!mayAsk()) return;
  if (stream) stream.close();
  const query = new URLSearchParams({topics: "jobs,nodes,stats", ticket});
  if (lastSeq !== null) query.set("after", lastSeq);
  const mine = new EventSource("/api/events?" + query);
  stream = mine;
  // What happened between the last look and the stream's first moment is told by neither: look again.
  mine.onopen = () => { retry = 0; live("on", "live"); soon("all", loadAll); };
  mine.onmessage = (event) => { lastSeq = event.lastEventId; onNote(JSON.parse(event.data)); };
  // A ticket serves once, so the browser's own reconnect can't work.
  mine.onerror = () => { mine.close(); if (stream === mine) again(); };
}

function again() {
  if (!mayAsk()) return;
  live("off", "disconnected, trying again");
  retry = Math.min(retry + 1, 6);
  clearTimeout(retrying);
  // What was never shown has to be fetched first.
  retrying = setTimeout($("board").hidden ? start : () => connect().catch(lost), 500 * 2 ** retry);
}

function lost(error) {
  if (error.status === 401) tell(error);
  else again();
}

async function loadAll() {
  await Promise.all([api("GET", "/api/stats").then(showStats), loadBalance(), loadNodes()]);
  await loadJobs();
}

function signIn(message) {
  forget();
  if (stream) stream.close();
  stream = null;
  retry = 0;
  clearTimeout(retrying);
  for (const timer of due.values()) clearTimeout(timer);
  due.clear();
  balance = null;
  sessionStorage.removeItem(KEY);
  $("board").hidden = true;
  $("leave").hidden = true;
  $("sign-in").hidden = false;
  problem($("key-error"), message);
  live("wait", "not connected");
  $("key").focus();
}

async function start() {
  clearTimeout(retrying);
  try {
    await Promise.all([loadAll(), offerToSubmit()]);
    if (!mayAsk()) return;
    $("sign-in").hidden = true;
    $("board").hidden = false;
    $("leave").hidden = OPEN;
    await connect();
  } catch (error) {
    tell(error);
    if (error.status !== 401) again();
  }
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  start();
});
$("wallet-file").addEventListener("change", async () => {
  const [file] = $("wallet-file").files;
  $("wallet-file").value = "";
  if (!file) return;
  try {
    problem($("key-error"), "");
    sessionStorage.setItem(KEY, await walletLogin(file));
    await start();
  } catch (error) {
    problem($("key-error"), error.message);
  }
});
$("leave").addEventListener("click", () => signIn(""));
$("more-nodes").addEventListener("click", () => { nodePages += 1; loadNodes().catch(tell); });
$("more").addEventListener("click", () => { wanted = jobs.size + PAGE; loadJobs().catch(tell); });
$("status").addEventListener("change", loadFiltered);
let typing = 0;
$("find").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(loadFiltered, 250); });
// Why a job waits and how far times lie back change without an event.
setInterval(() => {
  if ($("board").hidden || document.hidden || !stream) return;
  for (const each of $("board").querySelectorAll("time")) each.textContent = ago(each.dateTime);
  if ([...jobs.values()].some((job) => job.status === "pending") && wanted <= MOST) soon("jobs", loadJobs);
  if (expanded) follow();
}, 5000);

if (mayAsk()) start();
else signIn("");

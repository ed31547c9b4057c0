// The dashboard: asks the API with the reader's token and shows the answers. All text goes in as text, never as markup.
"use strict";

const KEY = "certwright-token";
const EVERY_MS = 3000;
const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem(KEY);
let timer = 0;
let busy = false;

class Refused extends Error {}

async function ask(path) {
  const answer = await fetch(path, { headers: token ? { "X-API-Key": token } : {}, cache: "no-store" });
  if (answer.status === 401) throw new Refused("This token is not known, or it has expired.");
  const body = await answer.json();
  if (!answer.ok && path !== "/api/health") throw new Error(body.detail || body.title || `status ${answer.status}`);
  return body;
}

// element("p", {class: "muted"}, "text", child…)
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "on") made.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

const TONE = {
  issued: "good", expiring: "wait", pending_issue: "wait", pending_route: "wait", tls_error: "bad", passthrough_unverified: "quiet",
  succeeded: "good", failed: "bad", waiting: "wait", running: "wait", queued: "quiet",
  ACTIVE: "good", DOMAIN_ACTIVE: "good", FAILED: "bad", DESTROYED: "quiet", DESTROYING: "wait",
  ok: "good", starting: "wait", stalled: "bad", down: "bad",
};
const WORDS = {
  pending_route: "no route yet", pending_issue: "waiting for its certificate", issued: "proven", expiring: "expiring",
  tls_error: "TLS error", passthrough_unverified: "passed through",
};
const MOVES = { customer: "the customer's move", operator: "your move", ca: "the CA's move", certwright: "Certwright's move" };

function pill(word, text) {
  return element("span", { class: `pill ${TONE[word] || "wait"}` }, text || word);
}

function when(text) {
  if (!text) return "";
  const moment = new Date(text);
  const seconds = Math.round((moment - Date.now()) / 1000);
  const size = Math.abs(seconds);
  const [count, unit] = size < 90 ? [size, "s"] : size < 5400 ? [Math.round(size / 60), "min"]
    : size < 172800 ? [Math.round(size / 3600), "h"] : [Math.round(size / 86400), "days"];
  const words = size < 1 ? "now" : seconds > 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
  return element("time", { datetime: text, title: moment.toLocaleString() }, words);
}

function answerLine(name, answer) {
  const line = element("li", {}, pill(answer.ok ? "ok" : "waiting", answer.ok ? "done" : "open"), ` ${name}: ${answer.message}`);
  for (const record of answer.records) line.append(element("code", { class: "record" }, `${record.name}  ${record.kind}  ${record.value}`));
  return line;
}

const opened = new Set();

function domainRow(domain) {
  const reason = domain.reason;
  const green = domain.tls_status === "issued";
  const headline = reason && reason.code !== "healthy" ? `${reason.message} (${MOVES[reason.actor] || reason.actor})`
    : green ? "the wire shows the current certificate" : "";
  const list = domain.checklist;
  const details = element("details", {},
    element("summary", {}, headline || "details"),
    element("ul", {}, answerLine("ownership", list.ownership), answerLine("routing", list.routing), answerLine("TLS", list.tls)),
    domain.certificate_ref ? element("code", { class: "record" }, domain.certificate_ref) : "");
  details.open = opened.has(domain.id);
  details.addEventListener("toggle", () => (details.open ? opened.add(domain.id) : opened.delete(domain.id)));
  return element("tr", {},
    element("td", {}, element("span", { class: "name" }, domain.domain), domain.site ? element("div", { class: "muted" }, domain.site) : ""),
    element("td", {}, pill(domain.tls_status, WORDS[domain.tls_status])),
    element("td", {}, details),
    element("td", {}, when(domain.tls_not_after)),
    element("td", {}, domain.issuers.join(", ")),
    element("td", {}, when(reason && reason.next_look_at)));
}

function siteRow(site) {
  const names = [site.default_domain, ...site.custom_domains].filter(Boolean).join(" · ");
  const warning = site.warnings[0];
  return element("li", {},
    element("span", { class: "name" }, site.name), pill(site.status, site.status.toLowerCase().replaceAll("_", " ")),
    element("span", { class: "muted" }, site.kind), element("span", { class: "note" }, names),
    warning ? element("span", { class: "note" }, warning.message) : "");
}

function jobRow(job) {
  return element("li", {},
    pill(job.status), element("span", {}, job.kind.replaceAll("_", " ")), element("span", { class: "name" }, job.subject),
    element("span", { class: "muted" }, when(job.finished_at || job.created_at)),
    job.error ? element("span", { class: "note" }, job.error) : "");
}

function tile(status, count) {
  const press = () => { $("filter").value = $("filter").value === status ? "" : status; refresh(); };
  return element("button", { class: "tile", type: "button", "aria-pressed": String($("filter").value === status), on: press },
    element("strong", {}, String(count)), WORDS[status] || status);
}

// Only what changed is put in, so that a reader's selection and focus stay.
const shown = new Map();
function fill(id, value, rows) {
  const text = JSON.stringify(value) + (id === "tiles" ? $("filter").value : Math.floor(Date.now() / 15000));
  if (shown.get(id) === text) return;
  shown.set(id, text);
  const place = $(id);
  const focused = place.contains(document.activeElement) ? [...place.querySelectorAll("summary, button")].indexOf(document.activeElement) : -1;
  place.replaceChildren(...rows);
  if (focused >= 0) place.querySelectorAll("summary, button")[focused]?.focus();
}

async function refresh() {
  if (busy || !token) return;
  busy = true;
  try {
    const query = new URLSearchParams({ limit: "200" });
    if ($("search").value.trim()) query.set("q", $("search").value.trim());
    if ($("filter").value) query.set("tls_status", $("filter").value);
    const [status, domains, sites, jobs] = await Promise.all([
      ask("/v1/admin/status"), ask(`/v1/domains?${query}`), ask("/api/sites?limit=200"), ask("/api/jobs?limit=12"),
    ]);
    show(status, domains, sites, jobs);
    $("trouble").hidden = true;
    $("updated").textContent = `as of ${new Date().toLocaleTimeString()}`;
  } catch (error) {
    if (error instanceof Refused) return close(error.message);
    $("trouble").textContent = `The server did not answer as it should: ${error.message}`;
    $("trouble").hidden = false;
  } finally {
    busy = false;
    await health();
    clearTimeout(timer);
    if (token) timer = setTimeout(refresh, document.hidden ? EVERY_MS * 10 : EVERY_MS);
  }
}

function show(status, domains, sites, jobs) {
  const total = Object.values(status.domains).reduce((sum, count) => sum + count, 0);
  const nothing = total === 0 && sites.items.length === 0;
  $("empty").hidden = !nothing;
  for (const id of ["tiles", "domains-card", "sites-card"]) $(id).hidden = nothing;
  const order = ["issued", "expiring", "pending_issue", "pending_route", "tls_error", "passthrough_unverified"];
  fill("tiles", status.domains, order.filter((word) => status.domains[word] || word === "issued" || word === "tls_error")
    .map((word) => tile(word, status.domains[word] || 0)));
  fill("domains", domains.items, domains.items.map(domainRow));
  fill("sites", sites.items, sites.items.map(siteRow));
  fill("jobs", jobs.items, jobs.items.length ? jobs.items.map(jobRow) : [element("li", { class: "muted" }, "No job yet.")]);
  $("domains-more").textContent = domains.next_cursor ? "There are more; narrow the search to see them."
    : domains.items.length ? "" : "No domain fits.";
  $("sites-more").textContent = sites.next_cursor ? "There are more: certwright site list" : "";
}

async function health() {
  const place = $("health");
  try {
    const answer = await ask("/api/health");
    const due = answer.backlog ? answer.backlog.due_domains + answer.backlog.due_sites : 0;
    place.textContent = { ok: "working", starting: "starting", stalled: "stalled", down: "database down" }[answer.status];
    place.title = `${due} due, ${answer.backlog ? answer.backlog.open_jobs : 0} open jobs`;
    place.className = `pill ${TONE[answer.status]}`;
  } catch {
    place.textContent = "not reachable";
    place.className = "pill bad";
  }
}

function close(message) {
  sessionStorage.removeItem(KEY);
  token = null;
  clearTimeout(timer);
  $("house").hidden = true;
  $("leave").hidden = true;
  $("updated").textContent = "";
  $("door").hidden = false;
  $("door-error").textContent = message || "";
  $("token").focus();
}

function open() {
  $("door").hidden = true;
  $("house").hidden = false;
  $("leave").hidden = false;
  refresh();
}

$("door-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  try {
    await ask("/v1/admin/status");
    sessionStorage.setItem(KEY, token);
    open();
  } catch (error) {
    close(error.message);
  }
});
$("leave").addEventListener("click", () => close(""));
$("search").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(refresh, 250); });
$("filter").addEventListener("change", refresh);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

health();
if (token) open(); else close("");

// The page's only script. What comes from a sandbox is put in as text (textContent) or as a picture's data address.
"use strict";

const EVERY = 1000; // milliseconds between two looks
const element = (id) => document.getElementById(id);
const KEPT_EVERY = 10000; // milliseconds between two looks at the kept notebooks, where no session came or went
const FAILED = { error: "failed", timeout: "timed out", dead: "kernel lost", aborted: "did not run" }; // of a session's last cell
const shown = { session: null, cells: 0 }; // a live session, or the kept notebook of one that ended (it has a `kept` id)
const kept = { seen: "", at: -Infinity };
let key = sessionStorage.getItem("key") || "";

async function ask(path, options = {}) {
  const headers = key ? { "x-api-key": key } : {};
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401 || response.status === 403) {
    throw new Refused((await response.json()).error.message);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => null);
    const failure = new Error(told?.error?.message || `The server answered ${response.status}.`);
    failure.status = response.status;
    throw failure;
  }
  return response;
}

class Refused extends Error {}

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.round(whole / 60)} min`;
  return `${Math.round(whole / 3600)} h`;
}

const since = (time) => span((Date.now() - Date.parse(time)) / 1000);
const until = (time) => span((Date.parse(time) - Date.now()) / 1000);
const memory = (bytes) => (bytes === null ? "–" : `${Math.round(bytes / 2 ** 20)} MB`);

const size = (bytes) => (bytes < 2 ** 20 ? `${Math.max(1, Math.round(bytes / 2 ** 10))} KB` : `${Math.round(bytes / 2 ** 20)} MB`);

const nameOf = (session) => JSON.stringify([session.owner, session.identifier, session.kept ?? null]);
const query = (session) => new URLSearchParams({ owner: session.owner, identifier: session.identifier });

async function lookAtSessions() {
  const told = await (await ask("page/sessions")).json();
  element("login").hidden = true;
  const count = told.sessions.length;
  const counted = `${count} ${count === 1 ? "session" : "sessions"}, ${told.pool.ready} warm, at most ${told.pool.most}`;
  tellSummary(told.hindrance ? `${counted} · ${told.hindrance}` : counted, told.hindrance && told.hindrance !== "starting");
  element("none").hidden = count > 0;
  fill("sessions", told.sessions.map(row));
  const chosen = told.sessions.find((session) => shown.session && nameOf(session) === nameOf(shown.session));
  if (shown.session) tellState(chosen ? chosen.state : "ended");
  await lookAtKept(JSON.stringify(told.sessions.map((session) => [session.owner, session.identifier, session.created_at])));
  return chosen;
}

function tellSummary(text, bad = false) {
  element("summary").textContent = text;
  element("summary").classList.toggle("bad", Boolean(bad));
}

// Put rows into a table; who was at a row's button stays there.
function fill(table, rows) {
  const focused = document.activeElement?.dataset?.name;
  element(table).replaceChildren(...rows);
  if (focused) rows.flatMap((row) => [...row.querySelectorAll("button")]).find((open) => open.dataset.name === focused)?.focus();
}

async function lookAtKept(seen) {
  if (seen === kept.seen && performance.now() - kept.at < KEPT_EVERY) return;
  const told = await (await ask("page/kept")).json();
  Object.assign(kept, { seen, at: performance.now() });
  element("ended").hidden = told.total === 0;
  fill("kept", told.kept.map(keptRow));
  element("more").hidden = told.total === told.kept.length;
  element("more").textContent = `The newest ${told.kept.length} of ${told.total}; /v1/admin/transcripts lists more.`;
}

function keptRow(found) {
  const session = { identifier: found.identifier, owner: found.owner, kept: found.id, state: "ended" };
  const when = make("td", { textContent: `${since(found.updated_at)} ago`, title: found.updated_at });
  return rowOf(session, make("td", { textContent: found.owner }), when, ...[String(found.cells), size(found.size)].map((text) => make("td", { textContent: text })));
}

function row(session) {
  const state = make("td", {}, make("span", { textContent: session.state, className: `state ${session.state}` }));
  const failed = session.state === "idle" && FAILED[session.last_status];
  if (failed) state.append(make("span", { className: "mark", textContent: `✗ ${failed}`, title: `Its last cell: ${failed}` }));
  const texts = [since(session.created_at), until(session.expires_at), memory(session.memory), String(session.cells)];
  return rowOf(session, make("td", { textContent: session.owner }), state, ...texts.map((text) => make("td", { textContent: text })));
}

function rowOf(session, ...cells) {
  const open = make("button", { type: "button", textContent: session.identifier });
  open.dataset.name = nameOf(session);
  const made = make("tr", {}, make("td", {}, open), ...cells);
  made.classList.toggle("chosen", shown.session !== null && nameOf(session) === nameOf(shown.session));
  made.addEventListener("click", () => choose(session));
  return made;
}

function choose(session) {
  shown.session = session;
  shown.cells = 0;
  element("title").textContent = session.identifier;
  element("cells").replaceChildren();
  element("notice").textContent = "";
  element("notebook").hidden = false;
  for (const chosen of document.querySelectorAll("#list tr")) {
    chosen.classList.toggle("chosen", chosen.querySelector("button")?.dataset.name === nameOf(session));
  }
  tellState(session.state);
  if (session.kept) lookAtKeptCells(session);
  else look();
}

async function lookAtKeptCells(session) {
  try {
    await lookAtCells();
  } catch (failure) {
    if (session === shown.session) element("notice").textContent = failure.message;
  }
}

function tellState(state) {
  element("state").textContent = state;
  element("state").className = `state ${state}`;
  element("interrupt").hidden = element("shutdown").hidden = Boolean(shown.session.kept);
  element("interrupt").disabled = state !== "busy";
  element("shutdown").disabled = state === "ended";
  element("download").disabled = state === "starting" && shown.cells === 0;
  const waits = "It is starting: its cells appear here once it runs them.";
  element("hint").textContent = state === "starting" && shown.cells === 0 ? waits : "";
}

// The last cell is asked for again each time: what a thread printed late belongs to it.
async function lookAtCells() {
  const session = shown.session;
  const first = Math.max(0, shown.cells - 1);
  const place = session.kept ? `page/kept/cells?transcript_id=${encodeURIComponent(session.kept)}` : `page/cells?${query(session)}`;
  const told = await (await ask(`${place}&first=${first}`)).json();
  if (session !== shown.session) return;
  const list = element("cells");
  told.cells.forEach((cell, offset) => {
    const text = JSON.stringify(cell);
    const present = list.children[first + offset];
    if (present?.dataset.text === text) return;
    const made = cellOf(cell);
    made.dataset.text = text;
    if (present) present.replaceWith(made);
    else list.append(made);
  });
  shown.cells = list.children.length;
  if (shown.cells < told.total) await lookAtCells();
}

function cellOf(cell) {
  const body = make("div", {}, make("pre", { className: "source", textContent: cell.source }));
  body.append(...cell.outputs.map(outputOf));
  if (cell.status !== "ok" || cell.seconds >= 1) {
    const parts = [cell.status === "ok" ? "" : cell.status, cell.fate, cell.seconds === null ? "" : `${cell.seconds.toFixed(1)} s`];
    body.append(make("div", { className: "after", textContent: parts.filter(Boolean).join(" · ") }));
  }
  const count = cell.kind === "code" ? `[${cell.count ?? " "}]` : "";
  return make("div", { className: `cell ${cell.status}` }, make("div", { className: "count", textContent: count }), body);
}

function outputOf(output) {
  const made = make("div", { className: "output" });
  if (output.picture) {
    made.append(make("img", { src: output.picture, alt: output.about }));
  } else if (output.table) {
    made.append(tableOf(output.table));
  } else {
    made.classList.toggle("stderr", output.stream === "stderr");
    made.classList.toggle("failed", output.error !== undefined);
    made.append(make("pre", { textContent: output.error ?? output.text }));
  }
  return made;
}

function tableOf(table) {
  const line = (tag, texts) => make("tr", {}, ...texts.map((text) => make(tag, { textContent: text })));
  const made = make("table", {}, make("thead", {}, line("th", table.columns)));
  made.append(make("tbody", {}, ...table.rows.map((texts) => line("td", texts))));
  if (table.note) made.prepend(make("caption", { textContent: table.note }));
  return made;
}

async function act(method, path) {
  try {
    await ask(`v1/admin/session${path}?${query(shown.session)}`, { method });
    element("notice").textContent = "";
  } catch (failure) {
    element("notice").textContent = failure.message;
  }
  await look();
}

async function download() {
  try {
    const { kept: id } = shown.session;
    const place = id ? `v1/admin/transcripts/${encodeURIComponent(id)}` : `v1/admin/session/transcript?${query(shown.session)}`;
    const content = await (await ask(place)).blob();
    const link = make("a", { href: URL.createObjectURL(content), download: "session.ipynb" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (failure) {
    element("notice").textContent = failure.message;
  }
}

let looking = null;
function look() {
  looking ??= lookOnce().finally(() => { looking = null; });
  return looking;
}

async function lookOnce() {
  try {
    const chosen = await lookAtSessions();
    if (chosen && shown.session) await lookAtCells();
  } catch (failure) {
    if (failure instanceof Refused) {
      element("login").hidden = false;
      tellSummary("");
      element("ended").hidden = true;
      kept.at = -Infinity;
      element("refused").textContent = key ? failure.message : "";
      element("sessions").replaceChildren();
    } else if (failure.status === undefined) {
      tellSummary("The server does not answer; asking again…", true);
    } else if (failure.status !== 404) {
      tellSummary(failure.message, true);
    }
  }
}

element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  key = element("key").value.trim();
  element("key").value = "";
  sessionStorage.setItem("key", key);
  look();
});
element("interrupt").addEventListener("click", () => act("POST", "/interrupt"));
element("shutdown").addEventListener("click", () => {
  if (confirm("Shut this session down? Its variables and files are lost; its notebook stays.")) act("DELETE", "");
});
element("download").addEventListener("click", download);

async function watch() {
  if (!document.hidden && element("login").hidden) await look();
  setTimeout(watch, EVERY);
}
look().then(watch);

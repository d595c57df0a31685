// The page's only script. What comes from a sandbox is put in as text (textContent) or as a picture's data address.
"use strict";

const EVERY = 1000; // milliseconds between two looks
const element = (id) => document.getElementById(id);
const shown = { session: null, cells: 0 };
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

const nameOf = (session) => JSON.stringify([session.owner, session.id]);
const query = (session) => new URLSearchParams({ owner: session.owner, identifier: session.id });

async function lookAtSessions() {
  const told = await (await ask("page/sessions")).json();
  element("login").hidden = true;
  const count = told.sessions.length;
  element("summary").textContent =
    `${count} ${count === 1 ? "session" : "sessions"}, ${told.pool.ready} warm, at most ${told.pool.most}`;
  element("none").hidden = count > 0;
  const rows = told.sessions.map(row);
  const focused = document.activeElement?.dataset?.name;
  element("sessions").replaceChildren(...rows);
  if (focused) rows.flatMap((row) => [...row.querySelectorAll("button")]).find((open) => open.dataset.name === focused)?.focus();
  const chosen = told.sessions.find((session) => shown.session && nameOf(session) === nameOf(shown.session));
  if (shown.session) tellState(chosen ? chosen.state : "ended");
  return chosen;
}

function row(session) {
  const open = make("button", { type: "button", textContent: session.id });
  open.dataset.name = nameOf(session);
  const state = make("span", { textContent: session.state, className: `state ${session.state}` });
  const texts = [since(session.created_at), until(session.expires_at), memory(session.memory), String(session.cells)];
  const cells = [make("td", {}, open), make("td", { textContent: session.owner }), make("td", {}, state)];
  const made = make("tr", {}, ...cells, ...texts.map((text) => make("td", { textContent: text })));
  made.classList.toggle("chosen", shown.session !== null && nameOf(session) === nameOf(shown.session));
  made.addEventListener("click", () => choose(session));
  return made;
}

function choose(session) {
  shown.session = session;
  shown.cells = 0;
  element("title").textContent = session.id;
  element("cells").replaceChildren();
  element("notice").textContent = "";
  element("notebook").hidden = false;
  tellState(session.state);
  look();
}

function tellState(state) {
  element("state").textContent = state;
  element("state").className = `state ${state}`;
  element("interrupt").disabled = state !== "busy";
  element("stop").disabled = state === "ended";
}

// The last cell is asked for again each time: what a thread printed late belongs to it.
async function lookAtCells() {
  const session = shown.session;
  const first = Math.max(0, shown.cells - 1);
  const told = await (await ask(`page/cells?${query(session)}&first=${first}`)).json();
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
    const parts = [cell.status === "ok" ? "" : cell.status, cell.seconds === null ? "" : `${cell.seconds.toFixed(1)} s`];
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
    const content = await (await ask(`v1/admin/session/notebook?${query(shown.session)}`)).blob();
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
      element("summary").textContent = "";
      element("refused").textContent = key ? failure.message : "";
      element("sessions").replaceChildren();
    } else if (failure.status !== 404) {
      element("summary").textContent = `The server does not answer: ${failure.message}`;
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
element("stop").addEventListener("click", () => {
  if (confirm("End this session? Its variables and files are lost; its notebook stays.")) act("DELETE", "");
});
element("download").addEventListener("click", download);

async function watch() {
  if (!document.hidden && element("login").hidden) await look();
  setTimeout(watch, EVERY);
}
look().then(watch);

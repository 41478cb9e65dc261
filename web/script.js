// What the page does in addition to reloading: live updates, keys, actions, theme. The server renders all HTML; this only
// puts it in place, and never turns text of agents into markup.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const body = document.body;
const view = body.dataset.view;
const isAdmin = body.hasAttribute("data-admin");
const base = new URL("./", location.href).pathname;
const parameters = () => new URLSearchParams(location.search);
document.documentElement.classList.add("live-on");

// --- Theme -----------------------------------------------------------------------------------------------------------

$("#theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  document.cookie = `theme=${root.dataset.theme}; path=${base}; max-age=31536000; samesite=strict`;
});

// --- Putting HTML in place -------------------------------------------------------------------------------------------

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const canHover = matchMedia("(hover: hover)");

// What the script itself sets, and HTML of the server must not reset.
const isKept = (element, name) => name === "open" || (name === "tabindex" && element.nodeName === "A");

// Makes `old` look like `fresh` by changing only what differs: focus, selection and scrolling stay.
function morph(old, fresh) {
  if (old.nodeName === "TEMPLATE" && fresh.nodeName === "TEMPLATE") return old.replaceWith(fresh);
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !isKept(old, name)) old.removeAttribute(name);
  }
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = child.id ? known.get(child.id) : place && !place.id && place.nodeName === child.nodeName ? place : null;
    if (!same) old.insertBefore(child, place);
    else {
      if (same === place) place = place.nextSibling;
      else old.insertBefore(same, place);
      morph(same, child);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

const look = (element) => element.className.replace(" changed", "");

function flash(element) {
  if (calm.matches || !element.classList.contains("row")) return;
  element.classList.add("changed");
  element.addEventListener("animationend", () => element.classList.remove("changed"), { once: true });
}

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  if (!isAdmin) $$(".admin", template.content).forEach((element) => element.remove());
  return template.content;
}

// Rows keep their place while the pointer is on one, or the focus of the keyboard is.
function isHeld() {
  const focused = ".row:focus-visible, .row:has(:focus-visible)";
  const pointed = canHover.matches ? `.row:hover, ${focused}` : focused;
  return Boolean($(`${pointed}, dialog[open]:not(.peek)`)) || Boolean(getSelection()?.toString());
}

// --- Times -----------------------------------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

// Times in the reader's own zone, where the server writes UTC.
function times(root = document) {
  for (const time of $$("time.at", root)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const isToday = at.toDateString() === new Date().toDateString();
    const text = isToday ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
    if (time.textContent !== text) time.textContent = text;
    time.title = `${time.dateTime} (UTC)`;
  }
  for (const time of $$("time.age", root)) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) time.title = `${time.dataset.verb ?? ""} ${at.toLocaleString()}`.trim();
  }
}

function ages() {
  const now = Date.now();
  for (const age of $$("time.age")) {
    const seconds = Math.max(0, Math.floor((now - Date.parse(age.dateTime)) / 1000));
    if (Number.isNaN(seconds)) continue;
    const text = seconds < 60 ? `${seconds}s` : seconds < 3600 ? `${Math.floor(seconds / 60)}m`
      : seconds < 172800 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86400)}d`;
    if (age.textContent !== text) age.textContent = text;
  }
}

// --- Loading the page again ------------------------------------------------------------------------------------------

// What is replaced by a load. The fleet is changed by fragments, and loads only what those do not cover.
const regions = () => $$("[data-live]");
// Milliseconds between two loads, and between loads that only time causes.
const LOAD_EVERY = { runs: 3000, setup: 5000 }[view] ?? 1000;
const RELOAD_EVERY = 60000;

let isStale = false;
let timer = 0;
let began = -1e9;
let took = 0;
let loading = null;

async function load() {
  loading?.abort();
  const own = loading = new AbortController();
  isStale = false;
  began = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store", signal: own.signal });
    // The session has ended: this address answers with the page that signs in.
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(String(answer.status));
    const text = await answer.text();
    if (loading !== own) return;
    apply(new DOMParser().parseFromString(text, "text/html"));
  } catch {
    if (loading === own) schedule(2000);
  }
  if (loading === own) loading = null;
  took = performance.now() - began;
}

// A change after a quiet moment shows at once; of many, the page loads at most once a second, and less where that is slow.
function schedule(least = 0) {
  isStale = true;
  const free = began + Math.max(document.hidden ? 10000 : LOAD_EVERY, took * 4) - performance.now();
  if (!timer) timer = setTimeout(() => { timer = 0; if (isHeld()) isStale = true; else load(); }, Math.max(least, free, 10));
}

function apply(next) {
  for (const old of regions()) {
    const fresh = next.getElementById(old.id);
    if (!fresh) continue;
    const before = new Map($$(".row", old).map((row) => [row.id, look(row)]));
    morph(old, document.importNode(fresh, true));
    for (const row of $$(".row", old)) if (row.id && before.get(row.id) !== look(row)) flash(row);
  }
  const nav = [$(".top nav"), $(".top nav", next)];
  if (nav[0] && nav[1]) morph(nav[0], document.importNode(nav[1], true));
  pending.clear();
  keepNewer(next.getElementById("fleet")?.dataset.since);
  document.title = next.title;
  setIcon($("link[rel=icon]", next)?.getAttribute("href"));
  showHeld();
  settle(document);
}

// What the stream brought while a page was rendered and on its way is newer than that page: it is put in place again.
function keepNewer(since) {
  for (const [id, fragment] of recent) {
    if (isNewer(fragment.event, since)) pending.set(id, fragment);
    else recent.delete(id);
  }
  if (pending.size) soon();
}

// Ids of events are `<start>-<number>`; of another start of the sidecar, what came last is newer.
function isNewer(event, since) {
  if (!event || !since) return false;
  const [start, number] = event.split("-");
  const [start2, number2] = since.split("-");
  return start === start2 && Number(number) > Number(number2);
}

// After anything was put in place.
function settle(root) {
  times(root);
  rove(root);
}

function setIcon(href) {
  const icon = $("link[rel=icon]");
  if (icon && href && icon.getAttribute("href") !== href) icon.setAttribute("href", href);
}

// --- The fleet by fragments ------------------------------------------------------------------------------------------

const fleet = $("#fleet");
const recent = new Map();    // by id, what came since the page was last loaded
const pending = new Map();   // by id, what is not in place yet: until the next frame, or until rows may move
let frame = 0;

function covers(agent) {
  const wanted = parameters();
  const text = (wanted.get("q") ?? "").trim().toLowerCase();
  const facets = Object.entries(agent.facets).every(([key, value]) => !wanted.get(key)?.trim() || wanted.get(key).trim() === value);
  const state = wanted.get("state")?.trim();
  return facets && (!state || state === agent.state) && (!text || `${agent.key} ${agent.find}`.toLowerCase().includes(text));
}

// Inserts in order; `children` are ordered by what `rank` returns.
function insert(list, element, rank) {
  const own = rank(element);
  let [low, high] = [0, list.children.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rank(list.children[middle]) < own) low = middle + 1; else high = middle;
  }
  if (list.children[low] !== element) list.insertBefore(element, list.children[low] ?? null);
}

const rankOfRow = (row) => row.dataset.rank ?? "";
const rankOfSquare = (square) => square.getAttribute("href") ?? "";

// The squares of an agent's group; a new one is made for the first.
function squaresOf(section, agent) {
  const teams = $(".teams", section);
  const key = fleet.dataset.group;
  const value = agent.facets[key];
  const known = [...teams.children].find((team) => team.dataset.team === value);
  if (known) return $(".squares", known);
  const link = parameters();
  link.set(key, value);
  const team = document.createElement("div");
  team.className = "team";
  team.dataset.team = value;
  team.append(document.createElement("h3"), Object.assign(document.createElement("div"), { className: "squares" }));
  const name = Object.assign(document.createElement("a"), { href: `./?${link}`, textContent: value === "-" ? `no ${key}` : value });
  team.firstChild.append(name, " ", Object.assign(document.createElement("span"), { className: "n" }));
  insert(teams, team, (team) => team.dataset.team);
  return team.lastChild;
}

// The section of a state; an empty one is not in the page, and made of its shell.
function sectionOf(state) {
  const known = document.getElementById(state);
  const shells = known ? null : $("#shells")?.content;
  const shell = shells && $(`#${CSS.escape(state)}`, shells);
  if (!shell) return known;
  const section = document.importNode(shell, true);
  const order = [...shells.children].map((other) => other.id);
  const groups = $("#groups");
  const later = [...groups.children].find((other) => order.indexOf(other.id) > order.indexOf(state));
  groups.insertBefore(section, later ?? null);
  return section;
}

// Puts a fragment in place; false if it has to wait, because rows may not move.
function place({ agent, html }, mayMove) {
  const old = document.getElementById(agent.id);
  if (agent.gone || !covers(agent)) {
    if (old && !mayMove) return false;
    old?.remove();
    return true;
  }
  const section = sectionOf(agent.state);
  if (!section) {
    schedule();
    return true;
  }
  const fresh = parse(html).firstElementChild;
  const rows = $(":scope > .rows", section);
  if (Boolean(rows) !== (fresh.nodeName === "LI")) {
    // A calm state that is shown as rows because it is the only one.
    schedule();
    return true;
  }
  const rank = rows ? rankOfRow : rankOfSquare;
  if (old && old.nodeName === fresh.nodeName && section.contains(old)) {
    const before = look(old);
    const band = $("svg.band", old);
    if (band && !$("svg.band", fresh)) $(".band", fresh)?.replaceWith(band.cloneNode(true));
    const isMoved = rank(old) !== rank(fresh);
    morph(old, fresh);
    settleOne(old);
    if (before !== look(old)) flash(old);
    if (isMoved && !mayMove) return false;
    if (isMoved) insert(old.parentNode, old, rank);
    return true;
  }
  if (!mayMove) return false;
  old?.remove();
  insert(rows ?? squaresOf(section, agent), fresh, rank);
  settleOne(fresh);
  flash(fresh);
  return true;
}

function settleOne(element) {
  if (element.nodeName === "A") element.tabIndex = element.previousElementSibling ? -1 : 0;
  else times(element);
}

function count() {
  let all = 0;
  for (const section of $$("#groups > section", fleet)) {
    const rows = $(":scope > .rows", section);
    const more = Number($("[data-more]", section)?.dataset.more ?? 0);
    let own = more;
    if (rows) own += rows.children.length;
    for (const team of $$(".team", section)) {
      const squares = $(".squares", team).children.length;
      if (squares === 0) team.remove(); else $(".n", team).textContent = squares;
      own += squares;
    }
    all += own;
    $(".n", section).textContent = own;
    if (own === 0) section.remove();
    if (more && rows && rows.children.length < 50) schedule(2000);
  }
  const unmatched = $("#unmatched");
  if (unmatched) unmatched.hidden = all > 0;
}

function placeAll() {
  frame = 0;
  if (!pending.size) return;
  const mayMove = !isHeld();
  for (const [id, fragment] of pending) if (place(fragment, mayMove)) pending.delete(id);
  count();
  showHeld();
}

function soon() {
  if (!frame && !document.hidden) frame = requestAnimationFrame(placeAll);
}

function showHeld() {
  const pill = $("#changes");
  if (!pill) return;
  pill.hidden = pending.size === 0;
  pill.textContent = pending.size === 1 ? "1 change" : `${pending.size} changes`;
}

$("#changes")?.addEventListener("click", () => {
  document.activeElement?.blur?.();
  getSelection()?.removeAllRanges();
  for (const fragment of pending.values()) place(fragment, true);
  pending.clear();
  count();
  showHeld();
});

// What was held shows once the pointer or the focus has left.
for (const kind of ["pointerout", "focusout", "close"]) {
  document.addEventListener(kind, () => setTimeout(() => {
    if (isHeld()) return;
    if (pending.size) soon();
    if (isStale) schedule();
  }, 30), true);
}

let urgent = null;

function setPart(data, html) {
  if (data.part === "summary") {
    setIcon(data.icon);
    const link = $('.top nav a[href="alerts"]');
    if (link) {
      $(".count", link)?.remove();
      const badge = Object.assign(document.createElement("span"), { className: `count l-${data.level}`, textContent: data.alerts });
      if (data.alerts) link.append(" ", badge);
    }
    if (urgent !== null && data.urgent > urgent) notify(data.title);
    urgent = data.urgent;
    if (view === "fleet") document.title = data.title;
  }
  const target = view === "fleet" && document.getElementById(data.part);
  if (!target) return;
  const fresh = target.cloneNode(false);
  fresh.append(parse(html));
  if (data.part === "loose") {
    const wanted = parameters();
    if (["q", "type", "host", "owner", "state"].some((key) => wanted.get(key)?.trim())) fresh.replaceChildren();
    const project = wanted.get("project")?.trim();
    if (project) $$(".row", fresh).forEach((row) => { if (row.dataset.project !== project) row.remove(); });
    if (!$(".row", fresh)) fresh.replaceChildren();
  }
  morph(target, fresh);
  settle(target);
}

// --- The stream ------------------------------------------------------------------------------------------------------

const live = $("#live");

function setLive(state, text) {
  if (!live) return;
  live.dataset.state = state;
  live.lastElementChild.textContent = text;
}

const here = $("[data-agent]", $("#agent") ?? document.createElement("i"))?.dataset.agent;

function receive({ kind, data, id }) {
  const [head, html] = [data?.split("\n", 1)[0], data?.slice(data.indexOf("\n") + 1)];
  const content = head ? JSON.parse(head) : {};
  if (kind === "state") {
    setLive(content.state, content.text);
    if (content.isNew) schedule();
  } else if (kind === "row") {
    if (fleet) {
      const fragment = { agent: content, html, event: id };
      pending.set(content.id, fragment);
      recent.set(content.id, fragment);
      soon();
    }
    if (view === "agent" && content.key === here) schedule();
    if (content.key === peeked) schedulePeek();
  } else if (kind === "part") {
    setPart(content, html);
  } else if (kind === "resync") {
    schedule(Math.random() * 400);
  } else if (view === "alerts" || view === "alert" || view === "agent" && content.agent === here) {
    if (kind === "alert" || view === "agent") schedule();
  } else if (kind === "run" && (view === "runs" || view === "run")) {
    schedule();
  }
}

// Tabs of one browser share one stream: the one that holds the lock reads it and passes it on.
// Without locks, on plain HTTP from another host, each tab reads its own.
const channel = navigator.locks ? new BroadcastChannel("lookout" + base) : null;
const tab = String(Math.random());
let state = null;      // of the stream, in the tab that reads it
let lastId = fleet?.dataset.since ?? "";
if (channel) {
  channel.onmessage = ({ data }) => {
    if (data.to && data.to !== tab) return;
    if (data.id) lastId = data.id;
    if (data.kind !== "hello") receive(data);
    // A tab that came later may have missed something.
    else if (state) channel.postMessage({ kind: "state", to: data.from, data: JSON.stringify({ ...state, isNew: true }) });
  };
}

function publish(message) {
  channel?.postMessage(message);
  receive(message);
}

function publishState(next, isNew) {
  state = next;
  publish({ kind: "state", data: JSON.stringify({ ...next, isNew }) });
}

function follow() {
  let pause = 2000;
  let source = null;
  let retry = 0;
  const close = () => {
    clearTimeout(retry);
    source?.close();
  };
  const open = () => {
    close();
    // From where this page was rendered, so that nothing is missed and nothing is loaded twice.
    const isNew = !lastId;
    const since = lastId ? `&last_event_id=${encodeURIComponent(lastId)}` : "";
    const own = source = new EventSource(`api/monitoring/stream?as=page${since}`);
    source.onopen = () => { pause = 2000; publishState({ state: "live", text: "live" }, isNew); };
    source.onerror = () => {
      publishState({ state: "lost", text: "connection lost, retrying" }, false);
      // After an answer other than 200 a browser does not try again by itself.
      if (own === source && own.readyState === EventSource.CLOSED) {
        // Where one is signed in, or needs no session, this leads away.
        fetch("login", { method: "HEAD", redirect: "manual" }).then((answer) => { if (answer.ok) location.reload(); }, () => {});
        retry = setTimeout(open, pause);
        pause = Math.min(pause * 2, 60000);
      }
    };
    for (const kind of ["row", "part", "alert", "run", "resync"]) {
      source.addEventListener(kind, ({ data, lastEventId }) => { lastId = lastEventId; publish({ kind, data, id: lastEventId }); });
    }
  };
  const pauseOrOpen = () => {
    if (!document.hidden) return open();
    close();
    setLive("static", "paused");
  };
  // A browser has few connections to a host: without locks a hidden tab lets go of its own.
  if (!navigator.locks) document.addEventListener("visibilitychange", pauseOrOpen);
  if (navigator.locks) open();
  else pauseOrOpen();
  return new Promise(() => {});
}

if (live && view !== "error" && view !== "login") {
  if (navigator.locks) {
    navigator.locks.request("lookout-stream" + base, follow);
    channel.postMessage({ kind: "hello", from: tab });
  } else {
    follow();
  }
  setInterval(ages, 1000);
  // Values that only time changes.
  setInterval(() => { if (!document.hidden) schedule(Math.random() * 5000); }, RELOAD_EVERY);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    soon();
    if (isStale) schedule();
  });
}

// --- Notifications ---------------------------------------------------------------------------------------------------

const ask = $("#notify");
function showPermission() {
  if (!ask) return;
  const permission = typeof Notification === "undefined" ? "none" : Notification.permission;
  ask.hidden = permission === "none";
  ask.disabled = permission !== "default";
  ask.textContent = { granted: "Notifications are on", denied: "Notifications are blocked by the browser" }[permission] ?? "Notify in this browser";
}
ask?.addEventListener("click", async () => { await Notification.requestPermission(); showPermission(); });
showPermission();

// More agents need attention than before, and this tab is not looked at.
function notify(title) {
  if (typeof Notification !== "undefined" && Notification.permission === "granted" && document.hidden) {
    new Notification(title, { tag: "lookout" });
  }
}

// --- Actions ---------------------------------------------------------------------------------------------------------

async function act(method, path, content) {
  const answer = await fetch(path, {
    method,
    headers: { "content-type": "application/json", "x-lookout": "page" },
    body: content === undefined ? undefined : JSON.stringify(content),
  });
  const result = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(result.error || `HTTP ${answer.status}`);
  return result;
}

const owner = (element) => element.closest("[data-alert], [data-agent], [data-silence]");

let toasting = 0;
function toast(text) {
  const element = $("#toast");
  if (!element) return;
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toasting);
  toasting = setTimeout(() => { element.hidden = true; }, 6000);
}

// What only a load shows is loaded; rows of the fleet follow by the stream.
function done() {
  if (!fleet || state?.state === "lost") load();
}

async function acknowledge(element) {
  const row = owner(element);
  if (!row?.dataset.alert) return;
  await act("POST", `api/alerts/${row.dataset.alert}/ack`, {});
  const button = $("button.ack", row);
  const tag = Object.assign(document.createElement("span"), { className: "tag", textContent: "acknowledged" });
  if (button?.matches(":focus-visible")) row.focus();
  button?.replaceWith(tag);
  done();
}

// A matcher is a pattern, and a name is none: a star in it stands for one character.
const literal = (name) => name.replaceAll("*", "?");

// What a silence would cover, chosen by its scope; the narrowest first.
function scopes(data) {
  const found = [];
  const { rule, project } = data;
  const about = {};
  if (project) about.project = literal(project);
  for (const [key, label] of [["name", "agent_name"], ["component", "component"], ["source", "source"], ["receiver", "receiver"]]) {
    if (data[key]) about[label] = literal(data[key]);
  }
  const subject = [project, data.name || data.component || data.source || data.receiver].filter(Boolean).join("/");
  const isWhole = !subject || subject === project;
  if (rule && subject) found.push([`${rule} of ${subject}`, { rule, ...about }]);
  if (!isWhole) found.push([`everything about ${subject}`, about]);
  if (rule) found.push([`${rule} of all`, { rule }]);
  if (project) found.push([`everything in ${project}`, { project: literal(project) }]);
  return found;
}

function silence(element) {
  const data = owner(element)?.dataset;
  const dialog = $("#silence");
  const list = data ? scopes(data) : [];
  if (!dialog || !list.length) return;
  const form = $("form", dialog);
  const [scope, preview, error] = [form.elements.scope, $(".preview", dialog), $(".error", dialog)];
  scope.replaceChildren(...list.map(([text], index) => new Option(text, String(index))));
  error.textContent = "";
  let asked = 0;
  const show = async () => {
    const own = asked += 1;
    const result = await act("POST", "api/silences/preview", { matchers: list[scope.value][1] }).catch((problem) => ({ text: problem.message }));
    if (own === asked) preview.textContent = result.text ?? "";
  };
  preview.textContent = "";
  scope.onchange = show;
  show();
  form.onsubmit = async (event) => {
    if (event.submitter?.value !== "ok") return;
    event.preventDefault();
    try {
      const [duration, comment] = [form.elements.duration.value, form.elements.comment.value];
      await act("POST", "api/silences", { matchers: list[scope.value][1], duration, comment });
      dialog.close();
      done();
    } catch (problem) {
      error.textContent = problem.message;
    }
  };
  dialog.showModal();
}

async function test(button) {
  const result = button.closest("tr")?.querySelector(".tested");
  button.disabled = true;
  if (result) result.textContent = "sending …";
  try {
    const { text } = await act("POST", `api/receivers/${encodeURIComponent(button.dataset.receiver)}/test`);
    if (result) result.textContent = text;
  } catch (problem) {
    if (result) result.textContent = problem.message;
  }
  button.disabled = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const has = (name) => button.classList.contains(name);
  try {
    if (button.id === "help-open") help();
    else if (has("ack")) await acknowledge(button);
    else if (has("silence")) silence(button);
    else if (has("peek-open")) await peek(button.closest(".row"));
    else if (has("peek-close")) closePeek();
    else if (has("test")) await test(button);
    else if (has("end")) {
      await act("DELETE", `api/silences/${encodeURIComponent(owner(button).dataset.silence)}`);
      load();
    }
  } catch (problem) {
    toast(problem.message);
  }
});

// Filters apply at once.
const filters = $("form.filters");
if (filters && fleet) {
  let typing;
  const go = () => {
    const query = new URLSearchParams([...new FormData(filters)].filter(([key, value]) => value || key === "wall"));
    history.replaceState(null, "", query.size ? `?${query}` : "./");
    pending.clear();
    load();
  };
  filters.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(go, 120); });
  filters.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); go(); });
}

// --- Peek: the agent's page next to the list ---------------------------------------------------------------------------

const panel = $("#peek");
let peeked = null;     // the agent that is shown there
let peekHref = "";
let peekFrom = null;   // the id of the row that has the focus again afterwards
let peekTimer = 0;

async function fillPeek() {
  const answer = await fetch(peekHref, { headers: { accept: "text/html" } });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const content = document.createElement("div");
  content.className = "content";
  content.append(...document.importNode($("main", page), true).childNodes);
  $$("[id]", content).forEach((element) => element.removeAttribute("id"));
  morph($(".content", panel), content);
  times(panel);
}

async function peek(row) {
  const link = row && $("a[href]", row);
  if (!link || !panel) return;
  peekHref = link.href;
  peekFrom = row.id;
  await fillPeek();
  peeked = row.dataset.agent ?? "";
  if (!panel.open) panel.show();
  $(".peek-close", panel).focus();
}

function closePeek() {
  if (!panel?.open) return;
  panel.close();
  peeked = null;
  document.getElementById(peekFrom)?.focus();
}

function schedulePeek() {
  if (!peekTimer) peekTimer = setTimeout(() => { peekTimer = 0; if (panel.open) fillPeek().catch(() => {}); }, 1000);
}

panel?.addEventListener("keydown", (event) => { if (event.key === "Escape") { closePeek(); event.stopPropagation(); } });

// --- Keys ------------------------------------------------------------------------------------------------------------

// Of the squares of a group one is a stop of the tab key; arrows move among them.
function rove(root) {
  for (const squares of $$(".squares", root)) {
    const current = $('[tabindex="0"]', squares) ?? squares.firstElementChild;
    for (const square of squares.children) if (square.tabIndex !== (square === current ? 0 : -1)) square.tabIndex = square === current ? 0 : -1;
  }
}

function moveAmongSquares(square, key) {
  const by = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[key];
  const all = [...square.parentNode.children];
  const index = all.indexOf(square);
  let next = all[Math.min(all.length - 1, Math.max(0, index + (by ?? 0)))];
  if (by === undefined) {
    // The nearest one in the line above or below.
    const from = square.getBoundingClientRect();
    const candidates = all.filter((other) => {
      const top = other.getBoundingClientRect().top;
      return key === "ArrowDown" ? top > from.top + 2 : top < from.top - 2;
    });
    const lines = key === "ArrowDown" ? candidates : candidates.reverse();
    const line = lines.length && lines[0].getBoundingClientRect().top;
    next = lines.filter((other) => Math.abs(other.getBoundingClientRect().top - line) < 2)
      .sort((a, b) => Math.abs(a.getBoundingClientRect().left - from.left) - Math.abs(b.getBoundingClientRect().left - from.left))[0];
  }
  if (!next) return;
  square.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

const stored = (key, value) => {
  // Some browsers forbid storage.
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch {
    return null;
  }
};

const single = $("#single-keys");
if (single) {
  single.checked = stored("lookout.keys") !== "off";
  single.addEventListener("change", () => stored("lookout.keys", single.checked ? "on" : "off"));
}

const help = () => $("#help").showModal();
let prefix = false;
const places = { f: "./", a: "alerts", r: "runs", s: "setup" };

document.addEventListener("keydown", async (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]:not(.peek)")) return;
  const target = event.target;
  if (event.key === "Escape") {
    if (panel?.open) closePeek(); else target.blur?.();
    return;
  }
  if (target.matches("input, select, textarea")) return;
  if (target.matches(".squares > a") && /^(Arrow|Home|End)/.test(event.key)) {
    moveAmongSquares(target, event.key);
    event.preventDefault();
    return;
  }
  const current = target.closest?.(".row, table.runs tbody tr");
  const isOnRow = current && target === current;
  if (isOnRow && event.key === "Enter") $("a[href]", current)?.click();
  else if (isOnRow && event.key === " ") {
    event.preventDefault();
    await peek(current).catch((problem) => toast(problem.message));
  }
  if (single && !single.checked) return;
  if (prefix) {
    prefix = false;
    if (places[event.key]) location.href = places[event.key];
    return;
  }
  const step = (by) => {
    const rows = $$(".row, table.runs tbody tr").filter((row) => row.offsetParent);
    const next = rows[Math.min(rows.length - 1, Math.max(0, rows.indexOf(current) + by))] ?? rows[0];
    if (!next) return;
    next.tabIndex = -1;
    next.focus();
  };
  const actions = {
    "/": () => $("#search")?.focus(),
    j: () => step(1),
    k: () => step(-1),
    g: () => { prefix = true; setTimeout(() => { prefix = false; }, 1200); },
    a: () => isAdmin && current && acknowledge(current).catch((problem) => toast(problem.message)),
    s: () => isAdmin && current && silence(current),
    "?": help,
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
});

settle(document);

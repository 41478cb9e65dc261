// What the page does beyond reloading: live updates, keys, actions, theme. The server renders all HTML; this only puts it in
// place, and never turns text of agents into markup.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const body = document.body;
document.documentElement.classList.add("live-on");

// --- Theme -----------------------------------------------------------------------------------------------------------

$("#theme")?.addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  document.cookie = `theme=${root.dataset.theme}; path=${location.pathname.replace(/[^/]*$/, "")}; max-age=31536000; samesite=strict`;
});

// --- Live updates ----------------------------------------------------------------------------------------------------

const live = $("#live");
const parts = ["#summary", "#fleet", "#alerts", "#agent"].filter((part) => $(part));
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let isStale = false;   // something changed since the page was rendered
let isLoading = false;
let timer = 0;
let began = -1e9;      // when the last load began, and how long it took, in milliseconds
let took = 0;
let held = 0;          // changes that wait because the pointer or focus is on a row

function setLive(state, text) {
  if (!live) return;
  live.dataset.state = state;
  live.lastElementChild.textContent = text;
}

// Rows keep their place while the pointer is on one or has the focus in it.
const isHeld = () => Boolean($(".row:hover, .row:focus, .row:focus-within, dialog[open]")) || Boolean(getSelection()?.toString());

async function refresh(isForced = false) {
  if (isLoading && !isForced) return;
  if (isHeld() && !isForced) return showHeld();
  isLoading = true;
  const address = location.href;
  isStale = false;
  began = performance.now();
  let hasFailed = false;
  try {
    const answer = await fetch(address, { headers: { accept: "text/html" }, cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    // What was asked for before the filters changed is not shown any more.
    if (address === location.href) {
      apply(next);
      held = 0;
      showHeld();
    }
  } catch {
    hasFailed = true;
  }
  isLoading = false;
  took = performance.now() - began;
  if (isStale || hasFailed) schedule(hasFailed ? 2000 : 0);
}

// A change after a quiet moment shows at once; of many, the page loads a few times a second, and less where that is slow.
function schedule(least) {
  isStale = true;
  const free = began + Math.max(document.hidden ? 5000 : 250, took * 4) - performance.now();
  if (!timer) timer = setTimeout(() => { timer = 0; refresh(); }, Math.max(least, free, 10));
}

function apply(next) {
  $$(".row.changed").forEach((row) => row.classList.remove("changed"));
  for (const part of parts) {
    const [old, fresh] = [$(part), $(part, next)];
    if (!old || !fresh || old.innerHTML === fresh.innerHTML) continue;
    const look = (row) => row.className.replace(" changed", "");
    const before = new Map($$(".row", old).map((row) => [row.id, look(row)]));
    const focused = document.activeElement?.closest?.(".row")?.id;
    old.innerHTML = fresh.innerHTML;
    for (const row of $$(".row", old)) {
      if (before.get(row.id) !== look(row) && !calm.matches) row.classList.add("changed");
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
  const nav = [$(".top nav"), $(".top nav", next)];
  if (nav[0] && nav[1] && nav[0].innerHTML !== nav[1].innerHTML) nav[0].innerHTML = nav[1].innerHTML;
  if (document.title !== next.title) notify(next.title);
  document.title = next.title;
  const icon = $("link[rel=icon]");
  const href = $("link[rel=icon]", next)?.getAttribute("href");
  if (icon && href && icon.getAttribute("href") !== href) icon.setAttribute("href", href);
}

function showHeld() {
  const pill = $("#changes");
  if (!pill) return;
  pill.hidden = held === 0;
  pill.textContent = held === 1 ? "1 change" : `${held} changes`;
}

$("#changes")?.addEventListener("click", () => {
  document.activeElement?.blur?.();
  held = 0;
  refresh(true);
});

function changed() {
  held += 1;
  schedule(0);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && isStale) schedule(0); });
document.addEventListener("pointerout", () => { if (isStale && !isHeld()) schedule(0); });

// Tabs of one browser share one stream: the one that holds the lock reads it and passes it on.
// Without locks, on plain HTTP from another host, each tab reads its own.
const base = new URL("./", location.href).pathname;
const channel = navigator.locks ? new BroadcastChannel("lookout" + base) : null;
let state = null;      // of the stream, in the tab that reads it
let isReader = false;
if (channel) {
  channel.onmessage = ({ data }) => {
    if (data.kind === "hello") { if (isReader && state) channel.postMessage(state); } else receive(data);
  };
}

function receive(data) {
  if (data.kind === "state") setLive(data.state, data.text);
  // What changed before the stream began is shown, too.
  if (data.kind !== "state" || data.state === "live") changed();
}

function publish(data) {
  if (data.kind === "state") state = data;
  channel?.postMessage(data);
  receive(data);
}

function follow() {
  isReader = true;
  let pause = 2000;
  const open = () => {
    const source = new EventSource("api/monitoring/stream?events=status,alert,run");
    source.onopen = () => { pause = 2000; publish({ kind: "state", state: "live", text: "live" }); };
    source.onerror = () => {
      publish({ kind: "state", state: "lost", text: "connection lost, retrying" });
      // After an answer other than 200 a browser does not try again by itself.
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(open, pause);
        pause = Math.min(pause * 2, 60000);
      }
    };
    for (const kind of ["status", "alert", "run", "resync"]) source.addEventListener(kind, () => publish({ kind }));
  };
  open();
  return new Promise(() => {});
}

if (parts.length) {
  if (navigator.locks) {
    navigator.locks.request("lookout-stream" + base, follow);
    channel.postMessage({ kind: "hello" });
  } else {
    follow();
  }
  setInterval(ages, 1000);
  // Values that only time changes.
  setInterval(() => schedule(0), 30000);
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

// Absolute times in the reader's own zone, where the server writes UTC.
document.addEventListener("pointerover", (event) => {
  const time = event.target.closest?.("time[datetime]");
  if (time && !time.dataset.local) {
    time.dataset.local = "1";
    time.title = `since ${new Date(time.dateTime).toLocaleString()}`;
  }
});

$("#notify")?.addEventListener("click", () => Notification.requestPermission());

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

async function acknowledge(element) {
  const fingerprint = owner(element)?.dataset.alert;
  if (!fingerprint) return;
  await act("POST", `api/alerts/${fingerprint}/ack`, {});
  done(element);
}

function done(element) {
  element.blur?.();
  if (parts.length) refresh(true); else location.reload();
}

// What a silence would cover, chosen by its scope; the narrowest first.
function scopes(data) {
  const found = [];
  const { rule, project } = data;
  const about = {};
  if (project) about.project = project;
  for (const [key, label] of [["name", "agent_name"], ["component", "component"], ["source", "source"], ["receiver", "receiver"]]) {
    if (data[key]) about[label] = data[key];
  }
  const subject = [project, data.name || data.component || data.source || data.receiver].filter(Boolean).join("/");
  const isWhole = !subject || subject === project;
  if (rule && subject) found.push([`${rule} of ${subject}`, { rule, ...about }]);
  if (!isWhole) found.push([`everything about ${subject}`, about]);
  if (rule) found.push([`${rule} of all`, { rule }]);
  if (project) found.push([`everything in ${project}`, { project }]);
  return found;
}

const matches = (matchers, alert) => Object.entries(matchers).every(([label, value]) => String(alert[label] ?? "") === value);

async function silence(element) {
  const data = owner(element)?.dataset;
  const dialog = $("#silence");
  if (!data || !dialog) return;
  const list = scopes(data);
  if (!list.length) return;
  const form = $("form", dialog);
  const [scope, preview, error] = [form.elements.scope, $(".preview", dialog), $(".error", dialog)];
  scope.replaceChildren(...list.map(([text], index) => new Option(text, String(index))));
  error.textContent = "";
  preview.textContent = "";
  const active = act("GET", "api/alerts?state=firing&limit=1000").then((answer) => answer.alerts, () => null);
  const show = async () => {
    const alerts = await active;
    const count = alerts ? alerts.filter((alert) => matches(list[scope.value][1], alert)).length : 0;
    preview.textContent = alerts ? `Covers ${count} ${count === 1 ? "alert that fires" : "alerts that fire"} now, and those to come.` : "";
  };
  scope.onchange = show;
  show();
  form.onsubmit = async (event) => {
    if (event.submitter?.value !== "ok") return;
    event.preventDefault();
    try {
      const [duration, comment] = [form.elements.duration.value, form.elements.comment.value];
      await act("POST", "api/silences", { matchers: list[scope.value][1], duration, comment });
      dialog.close();
      done(element);
    } catch (problem) {
      error.textContent = problem.message;
    }
  };
  dialog.showModal();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  try {
    if (button.id === "help-open") $("#help").showModal();
    else if (button.classList.contains("ack")) await acknowledge(button);
    else if (button.classList.contains("silence")) await silence(button);
    else if (button.classList.contains("end")) {
      await act("DELETE", `api/silences/${encodeURIComponent(owner(button).dataset.silence)}`);
      location.reload();
    }
  } catch (problem) {
    button.textContent = problem.message;
  }
});

// Filters apply at once.
const filters = $("form.filters");
if (filters && body.dataset.view === "fleet") {
  let typing;
  const go = async () => {
    const query = new URLSearchParams([...new FormData(filters)].filter(([, value]) => value));
    for (const kept of ["wall", "state"]) if (new URLSearchParams(location.search).has(kept)) query.set(kept, new URLSearchParams(location.search).get(kept));
    history.replaceState(null, "", query.size ? `?${query}` : "./");
    held = 0;
    await refresh(true);
  };
  filters.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(go, 120); });
  filters.addEventListener("submit", (event) => { event.preventDefault(); go(); });
}

// --- Keys ------------------------------------------------------------------------------------------------------------

let prefix = false;
const places = { f: "./", a: "alerts", r: "runs", s: "setup" };

document.addEventListener("keydown", async (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  const target = event.target;
  if (target.matches("input, select, textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  if (prefix) {
    prefix = false;
    if (places[event.key]) location.href = places[event.key];
    return;
  }
  const rows = $$(".row, table.runs tbody tr");
  const current = document.activeElement?.closest?.(".row, table.runs tbody tr");
  const step = (by) => {
    const next = rows[Math.min(rows.length - 1, Math.max(0, rows.indexOf(current) + by))] ?? rows[0];
    if (!next) return;
    next.tabIndex = -1;
    next.focus();
  };
  switch (event.key) {
    case "/": $("#search")?.focus(); break;
    case "j": step(1); break;
    case "k": step(-1); break;
    case "g": prefix = true; setTimeout(() => { prefix = false; }, 1200); break;
    case "Enter": if (!current || target !== current) return; $("a[href]", current)?.click(); break;
    case " ": if (!current || target !== current) return; peek(current); break;
    case "a": if (current) await acknowledge(current).catch(() => {}); break;
    case "s": if (current && body.hasAttribute("data-admin")) silence(current); break;
    case "Escape": $(".peek")?.remove(); current?.blur(); return;
    case "?": $("#help").showModal(); break;
    default: return;
  }
  event.preventDefault();
});

// The agent's page next to the list.
async function peek(row) {
  const link = $("a[href]", row);
  if (!link) return;
  const answer = await fetch(link.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  $(".peek")?.remove();
  const panel = document.createElement("aside");
  panel.className = "peek";
  panel.setAttribute("aria-label", "Peek");
  panel.append(...document.importNode($("main", page), true).childNodes);
  body.append(panel);
}

"use strict";
// The page, without a framework or other hosts. Data is inserted as text, never as HTML.

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const main = document.getElementById("main");
const card = document.getElementById("card");
let grid = null, runs = [], timer = null, selectedTask = "", lastBusy = false;
const known = { action: "backfill", dataset: "green", warehouse: "", month: "2019-01", start: "2019-01", stop: "2019-12",
  workers: 2, force: false };

function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value === "boolean") element[key] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function token() {
  return document.querySelector('meta[name="token"]').content || sessionStorage.getItem("token") || "";
}

async function ask(path, method = "GET", body = undefined) {
  const headers = method === "GET" ? {} : { Authorization: `Bearer ${token()}` };
  const answer = await fetch(`/api/pipeline/${path}`, { method, headers, body: body && JSON.stringify(body) });
  const content = await answer.json().catch(() => ({ error: answer.statusText }));
  if (answer.status === 401 && method !== "GET") {
    const given = prompt("The token (in ui/token below the storage root of the server):");
    if (given) {
      sessionStorage.setItem("token", given.trim());
      document.querySelector('meta[name="token"]').content = "";
      return ask(path, method, body);
    }
  }
  if (!answer.ok) throw new Error(content.error || answer.statusText);
  return content;
}

function showProblem(text) {
  const problem = document.getElementById("problem");
  problem.textContent = text;
  problem.hidden = !text;
}

const number = (n) => Number(n).toLocaleString("en-US");
const counted = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
function short(n) {
  if (n >= 9.95e6) return `${Math.round(n / 1e6)}M`;
  if (n >= 999.5e3) return `${(n / 1e6).toFixed(1)}M`;
  return n >= 9.95e3 ? `${Math.round(n / 1e3)}k` : n >= 1e3 ? `${(n / 1e3).toFixed(1)}k` : String(n);
}
function when(iso) {
  if (!iso) return "–";
  const at = new Date(iso);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  const pad = (n) => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return at.toDateString() === new Date().toDateString() ? `today ${time}` : `${day} ${time}`;
}
function lasting(seconds) {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s` : `${(seconds / 3600).toFixed(1)} h`;
}
const between = (start, end) => (new Date(end || Date.now()) - new Date(start)) / 1000;

// ---------------------------------------------------------------- months

function cells() {
  // warehouse → key → {status, rows, aside, at, run, error}
  const found = {};
  for (const [warehouse, entries] of Object.entries(grid.loaded)) {
    found[warehouse] = {};
    for (const [key, rows, aside, at] of entries) {
      found[warehouse][key] = { status: aside ? "part" : "ok", rows, aside, at };
    }
  }
  for (const each of grid.tries) {
    const known = found[each.warehouse] && found[each.warehouse][each.key];
    if (!found[each.warehouse] || each.status === "done" || (known && new Date(known.at) > new Date(each.at))) continue;
    found[each.warehouse][each.key] = { ...known, status: each.status, run: each.run, error: each.error };
  }
  return found;
}

function monthsView() {
  const found = cells();
  const parts = [formView()];
  for (const [name, reason] of Object.entries(grid.problems)) parts.push(h("p", { class: "error" }, `${name}: ${reason}`));
  let any = false;
  for (const dataset of grid.datasets) {
    for (const [warehouse, title] of Object.entries(grid.warehouses)) {
      const keys = Object.keys(found[warehouse]).filter((key) => key.startsWith(`${dataset}/`));
      if (!keys.length) continue;
      any = true;
      parts.push(gridView(dataset, warehouse, title, found[warehouse], keys));
    }
  }
  if (!any) parts.push(h("p", { class: "muted" }, "Nothing is loaded yet. Start a load above."));
  parts.push(h("p", { class: "legend" },
    ...[["ok", "loaded"], ["part", "loaded, rows set aside"], ["running", "running"], ["failed", "failed"], ["none", "not loaded"]]
      .map(([name, text]) => h("span", {}, h("i", { class: name }), text))));
  return parts;
}

function gridView(dataset, warehouse, title, found, keys) {
  const years = keys.map((key) => Number(key.split("/")[1].slice(0, 4)));
  const total = keys.reduce((sum, key) => sum + (found[key].rows || 0), 0);
  const loaded = keys.filter((key) => found[key].rows !== undefined).length;
  const body = [h("span", {}), ...MONTHS.map((name) => h("span", { class: "head" }, name[0], h("span", {}, name.slice(1))))];
  for (let year = Math.max(...years); year >= Math.min(...years); year--) {
    body.push(h("span", { class: "year" }, String(year)));
    for (let month = 1; month <= 12; month++) {
      const name = `${year}-${String(month).padStart(2, "0")}`;
      const cell = found[`${dataset}/${name}`];
      const isLoaded = cell && cell.rows !== undefined;
      const text = !cell ? "" : isLoaded ? short(cell.rows) : cell.status === "failed" ? "failed" : "…";
      const says = !cell ? "not loaded" : cell.status === "ok" ? "loaded" : cell.status === "part" ? "loaded, some rows set aside"
        : isLoaded ? `loaded; last run: ${cell.status}` : cell.status;
      body.push(h("button", { class: `cell ${cell ? cell.status : ""}`, title: `${dataset} ${name}: ${says}`,
        "aria-label": `${dataset} ${name}: ${says}${isLoaded ? `, ${counted(cell.rows, "row")}` : ""}`,
        "data-key": `${warehouse}/${dataset}/${name}`, onclick: () => showCard(warehouse, dataset, name) }, text));
    }
  }
  return h("section", {},
    h("h2", {}, `${dataset} in ${title} `, h("span", { class: "muted" }, `${counted(loaded, "month")}, ${counted(total, "row")}`)),
    h("div", { class: "scroll" }, h("div", { class: "grid" }, ...body)));
}

function formView() {
  const field = (name, label, input) => h("label", { "data-field": name }, label, input);
  const select = (name, options) => {
    const element = h("select", { name }, ...options.map(([value, text]) => h("option", { value }, text)));
    element.value = known[name] || options[0][0];
    if (!element.value) element.value = options[0][0];
    return element;
  };
  const month = (name) => h("input", { name, pattern: "\\d{4}-\\d{2}", placeholder: "2019-01", value: known[name], size: "8",
    required: true, inputmode: "numeric", title: "a month such as 2019-01" });
  const warehouses = Object.entries(grid.warehouses);
  const form = h("form", { id: "start", onsubmit: submit, oninput: (event) => { remember(); shape(form); } },
    field("action", "What", select("action", [["backfill", "Backfill months"], ["load", "Load a month"],
      ["pipeline", "Load, build and report"], ["build", "Build the models"], ["report", "Write the report"]])),
    field("dataset", "Dataset", select("dataset", grid.datasets.map((name) => [name, name]))),
    field("month", "Month", month("month")),
    field("start", "First month", month("start")),
    field("stop", "Last month", month("stop")),
    field("warehouse", "Into", select("warehouse", warehouses)),
    field("workers", "Months at a time", h("input", { name: "workers", type: "number", min: "1", max: "16", value: known.workers })),
    h("label", { class: "check", "data-field": "force" }, h("input", { type: "checkbox", name: "force", checked: known.force }),
      "even if it is loaded"),
    h("button", { class: "main" }, "Start"));
  shape(form);
  return form;

  function remember() {
    for (const element of form.elements) {
      if (element.name) known[element.name] = element.type === "checkbox" ? element.checked : element.value;
    }
  }
}

const FIELDS = { backfill: ["dataset", "start", "stop", "warehouse", "workers", "force"],
  load: ["dataset", "month", "warehouse", "force"], pipeline: ["dataset", "month", "warehouse", "force"], build: ["warehouse"], report: ["warehouse"] };

function shape(form) {
  for (const label of form.querySelectorAll("[data-field]")) {
    const name = label.dataset.field;
    const shown = name === "action" || FIELDS[form.elements.action.value].includes(name);
    label.hidden = !shown;
    label.style.display = shown ? "" : "none";
    label.querySelector("input, select").disabled = !shown;
  }
}

function submit(event) {
  event.preventDefault();
  const request = {};
  for (const element of event.target.elements) {
    if (!element.name || element.disabled) continue;
    request[element.name] = element.type === "checkbox" ? element.checked : element.type === "number" ? Number(element.value) : element.value;
  }
  if (!request.force) delete request.force;
  start(request);
}

async function start(request) {
  showProblem("");
  try {
    const run = await ask("runs", "POST", request);
    card.close();
    location.hash = `#runs/${run.id}`;
  } catch (error) {
    showProblem(error.message);
    card.close();
  }
}

async function showCard(warehouse, dataset, month) {
  const found = await ask(`months/${warehouse}/${dataset}/${month}`).catch((error) => showProblem(error.message));
  if (!found) return;
  const entry = found.entry;
  const facts = entry ? [
    ["Rows loaded", number(entry.rows_loaded)],
    ["Set aside", `${number(entry.rows_duplicate)} duplicate, ${number(entry.rows_rejected)} malformed`],
    ["Loaded", `${when(entry.finished_at)}, in ${lasting(entry.seconds)}`],
    ["Table", entry.target_table],
    ["Source", entry.source_url],
    ["Edition", [`${number(entry.source_bytes)} bytes`, entry.last_modified && `of ${entry.last_modified}`,
      entry.source_sha256 && `sha256 ${entry.source_sha256.slice(0, 12)}…`].filter(Boolean).join(", ")],
  ] : [];
  const failed = found.tries.find((each) => each.status === "failed");
  const hasFailed = failed && found.tries[0].run === failed.run
    && !(entry && new Date(entry.finished_at) > new Date(failed.ended));
  // After a failed load the file is downloaded again, because its source may have replaced it.
  const force = entry || (hasFailed && failed.task.startsWith("Load")) ? { force: true } : {};
  card.replaceChildren(...[
    h("header", {}, h("h2", {}, `${dataset} ${month} `, h("span", { class: "muted" }, grid.warehouses[warehouse])),
      h("button", { onclick: () => card.close(), "aria-label": "Close" }, "Close")),
    entry ? h("dl", {}, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))
      : h("p", { class: "muted" }, "This month is not loaded."),
    hasFailed ? h("p", { class: "error" }, failed.error) : null,
    found.tries.length ? h("h3", {}, "Runs") : null,
    found.tries.length ? h("table", { class: "wide" }, h("tbody", {}, ...found.tries.slice(0, 12).map((each) => h("tr", {},
      h("td", {}, h("span", { class: `tag ${each.status}` }, each.status)),
      h("td", {}, each.task), h("td", {}, when(each.started)),
      h("td", { class: "number" }, each.ended ? lasting(between(each.started, each.ended)) : ""),
      h("td", {}, h("a", { href: `#runs/${each.run}`, onclick: () => card.close() }, "log")))))) : null,
    h("p", {}, h("button", { class: "main", onclick: () => start({ action: "load", dataset, month, warehouse, ...force }) },
      hasFailed ? "Run it again" : entry ? "Load it again" : "Load it")),
  ].filter(Boolean));
  if (!card.open) card.showModal();
}

// ---------------------------------------------------------------- runs

function runsView() {
  if (!runs.length) return [h("p", { class: "muted" }, "No runs yet.")];
  return [h("h2", {}, "Runs"), h("table", { class: "wide" },
    h("thead", {}, h("tr", {}, h("th", {}, "Status"), h("th", {}, "What"), h("th", {}, "Started"),
      h("th", { class: "number" }, "Took"), h("th", { class: "number" }, "Tasks"))),
    h("tbody", {}, ...runs.map((run) => h("tr", {},
      h("td", {}, h("span", { class: `tag ${run.status}` }, run.status)),
      h("td", { class: "long" }, h("a", { href: `#runs/${run.id}` }, run.title), run.error ? h("div", { class: "muted" }, run.error) : null),
      h("td", { class: "short", "data-label": "Started" }, when(run.started)),
      h("td", { class: "number", "data-label": "Took" }, lasting(between(run.started, run.ended))),
      h("td", { class: "number", "data-label": "Tasks" }, `${run.done} done${run.failed ? `, ${run.failed} failed` : ""}`)))))];
}

const UNSHOWN = ["reverse", "now", "months_back", "months_forward", "task_limit", "param_name"];  // of Luigi's ranges
const nameTask = (task, parameters) => [task, ...Object.entries(parameters)
  .filter(([name, value]) => !UNSHOWN.includes(name) && value && value !== "None").map(([, value]) => value)].join(" ");
const taskName = (each) => nameTask(each.task, each.parameters);

function runView(run) {
  const bookkeeping = /^(Informed scheduler that|Worker Worker\(|Running Worker|Done scheduling)/;
  const lines = run.lines.filter((line) => !bookkeeping.test(line.message)).filter((line) => !selectedTask || (line.task && taskName(line) === selectedTask)
    || (!line.task && selectedTask.includes(line.month || "\0")));
  const live = run.status === "running" || run.status === "stopping";
  const scheduled = run.live || { running: [], waiting: 0 };
  const ended = run.done + run.failed, all = ended + scheduled.running.length + scheduled.waiting;
  const text = lines.length ? lines.map((line) => h("span", { class: line.level },
    `${new Date(line.time).toLocaleTimeString([], { hour12: false })} ${line.level === "INFO" ? "" : `${line.level} `}${brief(line)}\n`))
    : [run.output || "Nothing yet.\n"];
  return [
    h("p", {}, h("a", { href: "#runs" }, "‹ all runs")),
    h("h2", {}, run.title, " ", h("span", { class: `tag ${run.status}` }, run.status)),
    h("p", { class: "muted" }, `started ${when(run.started)}, ${live ? "running for" : "took"} ${lasting(between(run.started, run.ended))}`,
      ` · ${counted(run.done, "task")} done${run.failed ? `, ${run.failed} failed` : ""}`,
      run.exit_code !== undefined && run.exit_code !== null ? ` · exit code ${run.exit_code}` : ""),
    run.command ? h("pre", {}, run.command.map((word) => /^[\w./=:-]+$/.test(word) ? word : `'${word}'`).join(" ")) : null,
    live ? h("progress", all ? { max: all, value: ended, "aria-label": `${ended} of ${counted(all, "task")}` } : {}) : null,
    live ? h("p", { class: "muted" }, all ? `${ended} of ${counted(all, "task")} ended` : "starting …") : null,
    ...scheduled.running.map((each) => h("div", { class: "box" }, h("strong", {}, each.name), " ",
      h("span", { class: "muted" }, each.message),
      h("progress", each.percent === null ? {} : { max: 100, value: each.percent, "aria-label": each.name }))),
    live && !run.cancellable && run.status === "running" ? h("p", { class: "muted" },
      "It cannot be cancelled from here: it runs on another machine or as another user.") : null,
    live && run.cancellable ? h("p", {}, h("button", { onclick: () => ask(`runs/${run.id}`, "DELETE").then(refresh, (error) => showProblem(error.message)) }, "Cancel")) : null,
    run.error ? h("p", { class: "error" }, run.error) : null,
    run.tasks.length ? h("h3", {}, "Tasks over time") : null,
    run.tasks.length ? timeline(run) : null,
    h("h3", {}, selectedTask ? `Log of ${selectedTask} ` : "Log ", selectedTask
      ? h("button", { onclick: () => { selectedTask = ""; refresh(); } }, "of all tasks") : null,
      " ", h("a", { href: `/api/pipeline/runs/${run.id}/log` }, "as a file")),
    h("pre", { id: "log" }, ...text),
    run.output && lines.length ? h("details", {}, h("summary", {}, "What the process wrote"), h("pre", {}, run.output)) : null,
  ];
}

function brief(line) {
  const text = line.message.replace(/^\[pid \d+\] Worker Worker\([^)]*\) (\w+)\s+/, "$1 ");
  return line.traceback ? `${text}\n${line.traceback}` : text;
}

function timeline(run) {
  const start = Math.min(...run.tasks.map((each) => +new Date(each.started)));
  const end = Math.max(start + 1, ...run.tasks.map((each) => +new Date(each.ended || run.ended || Date.now())));
  const share = (at) => `${(100 * (at - start)) / (end - start)}%`;
  return h("div", { class: "timeline box" }, ...run.tasks.slice(0, 400).flatMap((each) => {
    const to = +new Date(each.ended || run.ended || Date.now());
    const status = each.status === "running" && run.ended ? "stopped" : each.status;
    const bar = h("div", { class: `bar ${status}` });
    bar.style.left = share(+new Date(each.started));
    bar.style.width = `${(100 * (to - new Date(each.started))) / (end - start)}%`;
    return [
      h("button", { onclick: () => { selectedTask = taskName(each); refresh(); }, title: "show its log" }, taskName(each)),
      h("div", { class: "track", title: each.error || status }, bar),
      h("span", { class: "muted" }, `${lasting((to - new Date(each.started)) / 1000)}${status === "failed" || status === "stopped" ? ` ${status}` : ""}`),
    ];
  }));
}

// ---------------------------------------------------------------- schedules, alerts

function schedulesView(found) {
  return [h("h2", {}, "Schedules"),
    h("p", { class: "muted" }, "`pipeline schedule` runs these. Last: the start of the last catch-up that succeeded."),
    h("table", { class: "wide" },
      h("thead", {}, h("tr", {}, ...["Dataset", "When", "Next", "Last", "Task"].map((name) => h("th", {}, name)))),
      h("tbody", {}, ...found.schedules.map((each) => h("tr", {},
        h("td", {}, each.dataset || each.problem), h("td", { "data-label": "When" }, h("code", {}, each.cron || ""), " ", h("span", { class: "muted" }, each.timezone || "")),
        h("td", { "data-label": "Next" }, when(each.next)), h("td", { "data-label": "Last" }, each.last ? when(each.last) : "never"),
        h("td", { "data-label": "Task" }, each.task || "")))))];
}

function alertsView(found) {
  if (!found.alerts.length) return [h("h2", {}, "Alerts"), h("p", { class: "muted" }, "There are no open alerts. Failures become alerts if a receiver is configured (docs/alerts.md); Runs lists every failure.")];
  return [h("h2", {}, "Alerts"), h("table", { class: "wide" },
    h("thead", {}, h("tr", {}, ...["Status", "Task", "Since", "Not delivered to", "What happened"].map((name) => h("th", {}, name)))),
    h("tbody", {}, ...found.alerts.map((each) => h("tr", {},
      h("td", {}, h("span", { class: `tag ${each.status}` }, each.status)),
      h("td", {}, nameTask(each.subject.family, each.subject.parameters)),
      h("td", { "data-label": "Since" }, when(each.since * 1000)),
      h("td", { "data-label": "Not delivered to" }, each.pending.join(", ") || "–"),
      h("td", { class: "long", "data-label": "What happened" }, each.detail)))))];
}

// ---------------------------------------------------------------- tabs and refreshing

// Redraws the view, and leaves the reader where they were: the focus, what is scrolled or open, a form being filled in.
function show(parts) {
  const log = document.getElementById("log");
  const atEnd = !log || log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
  const isSame = main.dataset.view === location.hash;
  const form = main.querySelector("form:focus-within");
  const focused = !form && main.contains(document.activeElement) && nameOf(document.activeElement);
  const scrolled = [...main.querySelectorAll(SCROLLED)].map((each) => [each.scrollLeft, each.scrollTop]);
  const wasOpen = !!main.querySelector("details[open]");
  const fresh = parts.filter(Boolean);
  if (isSame && form) {
    for (const each of [...main.children]) if (each !== form) each.remove();
    form.after(...fresh.filter((each) => each.id !== form.id));
  } else main.replaceChildren(...fresh);
  main.dataset.view = location.hash;
  if (isSame) {
    [...main.querySelectorAll(SCROLLED)].forEach((each, i) => { if (scrolled[i]) [each.scrollLeft, each.scrollTop] = scrolled[i]; });
    for (const each of main.querySelectorAll("details")) each.open = wasOpen;
    if (focused) [...main.querySelectorAll("a, button")].find((each) => nameOf(each) === focused)?.focus({ preventScroll: true });
  }
  const newLog = document.getElementById("log");
  if (newLog && (atEnd || !isSame)) newLog.scrollTop = newLog.scrollHeight;
}

const SCROLLED = ".scroll, .timeline, pre";
const nameOf = (element) => element.dataset.key || element.getAttribute("href") || element.textContent;

async function refresh() {
  clearTimeout(timer);
  const [name, id] = location.hash.slice(1).split("/");
  const tabs = [...document.querySelectorAll("#tabs a")];
  const tab = tabs.some((link) => link.hash === `#${name}`) ? name : "months";
  for (const link of tabs) {
    if (link.hash === `#${tab}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  let busy = false;
  try {
    runs = await ask("runs");
    busy = runs.some((run) => run.status === "running" || run.status === "stopping");
    if (tab === "months") {
      // Reading the ledger starts the embedded database, so it is read only if something may have changed.
      if (!grid || busy || lastBusy || refresh.wanted) grid = await ask("grid");
      links();
      show(monthsView());
    } else if (tab === "runs" && id) {
      show(runView(await ask(`runs/${id}`)));
    } else if (tab === "runs") {
      show(runsView());
    } else {
      const found = await ask("overview");
      show(tab === "schedules" ? schedulesView(found) : alertsView(found));
    }
    if (showProblem.lost) showProblem("");
    showProblem.lost = false;
  } catch (error) {
    showProblem.lost = error instanceof TypeError;
    showProblem(showProblem.lost ? "The server does not answer; trying again." : error.message);
  }
  lastBusy = busy;
  refresh.wanted = false;
  if (!document.hidden) timer = setTimeout(refresh, busy ? 1500 : 15000);
}

function links() {
  document.getElementById("links").replaceChildren(
    ...grid.reports.map((name) => h("a", { href: `/report/${name}` }, grid.reports.length > 1 ? `Report (${name})` : "Report")),
    grid.lineage ? h("a", { href: "/lineage" }, "Lineage") : "",
    h("a", { href: "/static/visualiser/index.html" }, "Luigi"), h("a", { href: "/history" }, "History"));
}

addEventListener("hashchange", () => { card.close(); selectedTask = ""; refresh.wanted = true; showProblem(""); refresh(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) { refresh.wanted = true; refresh(); } });
ask("grid").then((found) => { grid = found; links(); }).catch(() => {}).finally(refresh);

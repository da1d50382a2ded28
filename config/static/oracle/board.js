"use strict";

// Prices come as events, and are written into the table as they come. All rows are asked for now
// and then, and every two seconds while no event comes: without a stream the page still lives.
// When nothing comes any more, ages go on counting: a price must never look fresher than it is.

const EVERY_MS = 2000;
const ALL_EVERY_MS = 15000;
const TIMEOUT_MS = 5000;
const SILENT_AFTER_MS = 6000;

const table = document.getElementById("board");
const body = table.tBodies[0];
const silence = document.getElementById("silence");
const filter = document.getElementById("filter");
const counts = document.getElementById("counts");
const empty = document.getElementById("empty");

const rows = new Map(Array.from(body.rows, (row) => [row.dataset.symbol, row]));
let answeredAt = performance.now(); // by an event or an answer
let askedAllAt = answeredAt;
let stream = null;
let isDrawn = true;
let answeredClock = new Date();
let problem = silence.hidden ? "" : silence.textContent;
let shownStatus = "all";

function ageWords(ageMs) {
  const seconds = ageMs / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  return seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(0)} h`;
}

function write(row, selector, text) {
  const cell = row.querySelector(selector);
  if (cell.textContent !== text) cell.textContent = text;
}

function makeRow(symbol, slug) {
  const row = body.insertRow();
  const head = row.appendChild(document.createElement("th"));
  head.scope = "row";
  const link = head.appendChild(document.createElement("a"));
  link.href = table.dataset.receipt.replace("SLUG", encodeURIComponent(slug));
  link.textContent = symbol;
  head.append(" ", document.createElement("small"));
  head.lastChild.className = "basis";
  row.dataset.symbol = symbol;
  row.insertCell().className = "price number";
  row.insertCell().appendChild(document.createElement("span")).className = "status";
  row.insertCell().className = "age number";
  const sources = row.insertCell();
  sources.className = "sources";
  sources.append(document.createElement("b"), " ", document.createElement("span"));
  row.insertCell().className = "spread number wide";
  row.insertCell().className = "outliers number wide";
  return row;
}

function writePrice(row, price) {
  const cell = row.querySelector(".price");
  const before = cell.textContent;
  if (before === price) return;
  cell.textContent = price;
  cell.classList.remove("up", "down");
  if (Number.isNaN(Number(before)) || Number.isNaN(Number(price))) return;
  void cell.offsetWidth; // or the animation would not start again
  cell.classList.add(Number(price) > Number(before) ? "up" : "down");
}

function writeRow(data, at) {
  let row = rows.get(data.symbol);
  if (!row) rows.set(data.symbol, (row = makeRow(data.symbol, data.slug)));
  const priced = data.price !== undefined;
  writePrice(row, priced ? data.price : "—");
  row.dataset.status = data.status;
  if (priced) row.dataset.bornAt = at - data.age_ms;
  else delete row.dataset.bornAt;
  write(row, ".basis", data.derived_from ? `by trades of ${data.derived_from}` : "");
  write(row, ".sources b", String(data.source_count ?? 0));
  write(row, ".sources span", data.sources.join(", "));
  write(row, ".spread", data.spread ?? "—");
  write(row, ".outliers", String(data.outliers ?? 0));
}

function writeRows(list, at) {
  const before = rows.size;
  list.forEach((data) => writeRow(data, at));
  const there = new Set(list.map((data) => data.symbol));
  for (const [symbol, row] of rows) {
    if (there.has(symbol)) continue;
    row.remove();
    rows.delete(symbol);
  }
  // Only when symbols came: moving rows takes the focus from them.
  if (list.length > before) list.forEach((data) => body.appendChild(rows.get(data.symbol)));
}

function writeCounts() {
  const found = { all: rows.size };
  for (const row of rows.values()) found[row.dataset.status] = (found[row.dataset.status] ?? 0) + 1;
  for (const button of counts.children) {
    write(button, "b", String(found[button.dataset.status] ?? 0));
  }
}

function applyFilter() {
  const wanted = filter.value.trim().toLowerCase();
  let visible = 0;
  for (const row of rows.values()) {
    const text = `${row.dataset.symbol} ${row.dataset.symbol.replace("/", "")} `
      + `${row.dataset.symbol.replace("/", "-")} ${row.querySelector(".sources span").textContent}`;
    const shown = text.toLowerCase().includes(wanted)
      && (shownStatus === "all" || row.dataset.status === shownStatus);
    row.hidden = !shown;
    visible += shown;
  }
  empty.hidden = visible > 0;
}

function writeAges() {
  const now = performance.now();
  const silent = now - answeredAt > SILENT_AFTER_MS || problem !== "";
  for (const row of rows.values()) {
    const { bornAt, status } = row.dataset;
    write(row, ".age", bornAt === undefined ? "—" : ageWords(now - Number(bornAt)));
    const mark = row.querySelector(".status");
    const word = silent && bornAt !== undefined ? "unknown" : status;
    if (mark.textContent !== word) {
      mark.textContent = word;
      mark.className = `status ${word}`;
    }
  }
  document.body.classList.toggle("silent", silent);
  silence.hidden = !silent;
  if (silent) {
    const since = `No answer since ${answeredClock.toLocaleTimeString()}.`;
    write(document, "#silence", `${since} ${problem}`.trim());
  }
}

async function ask() {
  const answer = await fetch(table.dataset.url, {
    headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (answer.ok) return { rows: (await answer.json()).rows, waitMs: EVERY_MS };
  const told = await answer.json().catch(() => null);
  const waitMs = 1000 * Number(answer.headers.get("Retry-After") ?? 0);
  return { problem: told?.error?.message ?? `HTTP ${answer.status}`, waitMs };
}

// A browser's numbers would lose digits of the price: it is cut out of the text.
function rowOf(text) {
  const data = JSON.parse(text);
  return {
    symbol: data.symbol,
    slug: data.symbol.toLowerCase().replace("/", "-"),
    price: /"price":([0-9.]+)/.exec(text)[1],
    status: data.status,
    age_ms: data.age_ms,
    source_count: data.source_count,
    sources: data.sources,
    outliers: data.outliers_removed,
    spread: data.spread_bps.toFixed(1),
    derived_from: data.derived_from,
  };
}

function noteAnswer(at) {
  answeredAt = at;
  answeredClock = new Date();
  problem = "";
  if (!isDrawn) return;
  isDrawn = false;
  requestAnimationFrame(() => {
    isDrawn = true;
    writeCounts();
    applyFilter();
    writeAges();
  });
}

// Only while somebody looks: a browser has few connections for all of its tabs together.
function follow() {
  if (document.hidden) {
    stream?.close();
    stream = null;
  } else if (stream === null) {
    const opened = (stream = new EventSource(table.dataset.stream));
    opened.addEventListener("price", (event) => {
      const now = performance.now();
      writeRow(rowOf(event.data), now);
      noteAnswer(now);
    });
    // Refused (too many requests, a proxy that knows no streams): it is tried again later.
    opened.addEventListener("error", () => {
      if (opened.readyState !== EventSource.CLOSED) return;
      setTimeout(() => {
        if (stream !== opened) return; // nobody looked for a while: it was closed, or opened anew
        stream = null;
        follow();
      }, ALL_EVERY_MS);
    });
  }
}

async function renew() {
  let waitMs = EVERY_MS;
  const now = performance.now();
  const isLate = now - answeredAt > EVERY_MS || now - askedAllAt > ALL_EVERY_MS || problem !== "";
  if (!document.hidden && isLate) {
    const askedAt = askedAllAt = now;
    try {
      const told = await ask();
      waitMs = Math.max(EVERY_MS, told.waitMs);
      if (told.rows) {
        writeRows(told.rows, askedAt); // an age may look older than it is, never younger
        noteAnswer(askedAt);
      } else {
        problem = told.problem;
      }
    } catch {
      problem = "The server cannot be reached.";
    }
    writeAges();
  }
  setTimeout(renew, waitMs);
}

filter.addEventListener("input", applyFilter);
counts.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  shownStatus = button.dataset.status;
  for (const other of counts.children) other.setAttribute("aria-pressed", String(other === button));
  applyFilter();
});
document.addEventListener("visibilitychange", follow);
for (const row of rows.values()) {
  if (row.dataset.ageMs !== undefined) row.dataset.bornAt = answeredAt - Number(row.dataset.ageMs);
}
setInterval(writeAges, 500);
applyFilter();
follow();
renew();

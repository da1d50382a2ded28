// A run's page: while the run is live it asks how it goes; when it has ended it draws what came of it.

import { drawCandles } from "./candles.js";
import { getJson } from "./chart.js";
import { drawEquity } from "./equity.js";
import { drawFolds } from "./folds.js";
import { drawHeat } from "./heat.js";

const EVERY_MS = 1500;
const HIDDEN_EVERY_MS = 15000;

const told = JSON.parse(document.getElementById("told").textContent);

function numberWords(value) {
  return typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 3 }) : "—";
}

function paramWords(params) {
  return Object.entries(params).map(([name, value]) => `${name} ${value}`).join(", ");
}

function ended(child) {
  return !["pending", "running"].includes(child.status);
}

function percentOf(state) {
  if (!state.children.length) return state.percent;
  const done = state.children.reduce((sum, child) => sum + (ended(child) ? 100 : child.percent || 0), 0);
  return Math.floor(done / state.children.length);
}

function doingWords(state) {
  const progress = state.progress;
  const tries = state.attempt > 1 ? ` Attempt ${state.attempt} of ${state.max_attempts}.` : "";
  if (state.children.length) {
    const done = state.children.filter(ended).length;
    return `${done} of ${state.children.length} folds searched.${tries}`;
  }
  if (state.status === "pending") return `Waits for a worker.${tries}`;
  if (progress.trials_total) {
    const best = progress.best ? ` Best so far: ${numberWords(progress.best.score)} (${paramWords(progress.best.params)}).` : "";
    return `${progress.trials_done.toLocaleString("en")} of ${progress.trials_total.toLocaleString("en")} trials.${best}${tries}`;
  }
  if (progress.phase === "data") {
    const share = progress.minutes_total ? `: ${Math.floor((progress.minutes_done / progress.minutes_total) * 100)} %` : "";
    return `Fetches candles${share}.${tries}`;
  }
  return `Runs.${tries}`;
}

function showEvents(events) {
  const list = document.getElementById("events");
  list.replaceChildren(
    ...events.map((event) => {
      const item = document.createElement("li");
      item.className = event.level;
      item.appendChild(document.createElement("time")).textContent = event.ts.replace("T", " ").slice(0, 19);
      item.append(` ${event.message}`);
      return item;
    }),
  );
}

function showChildren(children) {
  for (const child of children) {
    const row = document.querySelector(`#children tr[data-run="${child.run_id}"]`);
    if (!row) return false;
    const status = row.querySelector(".status");
    status.textContent = child.status;
    status.className = `status ${child.status}`;
    row.cells[2].textContent = child.percent === null ? "—" : `${child.percent} %`;
    row.cells[3].textContent = child.error;
  }
  return true;
}

function showState(state) {
  const bar = document.getElementById("bar");
  const percent = percentOf(state);
  if (percent === null || state.status === "pending") bar.removeAttribute("value");
  else bar.value = percent;
  document.getElementById("doing").textContent = doingWords(state);
  const badge = document.querySelector("h1 .status");
  badge.textContent = state.status;
  badge.className = `status ${state.status}`;
  showEvents(state.events);
  return showChildren(state.children);
}

async function follow() {
  try {
    const state = await getJson(told.urls.state);
    // Children that the page does not know yet, or the end: the server draws a new page.
    if (ended(state) || !showState(state)) return location.reload();
  } catch (error) {
    document.getElementById("doing").textContent = `No answer: ${error.message}. Asks again.`;
  }
  setTimeout(follow, document.hidden ? HIDDEN_EVERY_MS : EVERY_MS);
}

async function showDrift() {
  const place = document.getElementById("drift");
  if (!place) return;
  try {
    const data = await getJson(told.urls.drift);
    place.textContent = data.drift.message;
    place.classList.toggle("bad", data.drift.changed === true);
  } catch (error) {
    place.textContent = `unknown: ${error.message}`;
  }
}

if (document.getElementById("live")) {
  setTimeout(follow, EVERY_MS);
} else {
  if (document.getElementById("equity")) {
    drawEquity(told);
    drawCandles(told);
  }
  if (document.getElementById("heat")) drawHeat(told);
  if (document.getElementById("folds") && window.echarts) drawFolds(told);
  showDrift();
}

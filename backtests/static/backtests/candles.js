// Candles with the trades on them. The whole range comes first, coarse; zooming in asks for finer
// candles of what is seen, so that never more than a screenful is sent.

import { axisLook, chart, getJson, lines, moment, percent, sayInstead, short } from "./chart.js";

const PATIENCE_MS = 300;
const CROWD = 120; // trades that would hide the candles

export async function drawCandles(told) {
  const element = document.getElementById("candles");
  let shown;
  try {
    shown = await getJson(told.urls.candles);
  } catch (error) {
    return sayInstead(element, error.message);
  }
  if (!shown.candles.length) return sayInstead(element, "The candles are no longer stored.");
  let seen = { start: 0, end: 100 };
  const { made, draw } = chart(element, (paint, isNarrow) => option(shown, seen, paint, isNarrow));
  say(shown);

  let timer = 0;
  made.on("datazoom", () => {
    clearTimeout(timer);
    timer = setTimeout(refine, PATIENCE_MS);
  });

  async function refine() {
    const zoom = made.getOption().dataZoom[0];
    const wanted = windowOf(shown, zoom);
    if (!wanted) return;
    try {
      const next = await getJson(told.urls.candles, { from_ms: wanted.load[0], to_ms: wanted.load[1] });
      if (!next.candles.length) return;
      shown = next;
      const length = next.candles.length;
      seen = {
        start: (placeOf(next.candles, wanted.seen[0]) / length) * 100,
        end: ((placeOf(next.candles, wanted.seen[1]) + 1) / length) * 100,
      };
      draw();
      say(shown);
    } catch (error) {
      document.getElementById("candles-note").textContent = error.message;
    }
  }
}

// What to ask for when this is seen; null when what is there will do.
function windowOf(shown, zoom) {
  const times = shown.candles.map((row) => row[0]);
  const last = times.length - 1;
  const start = times[Math.max(0, Math.floor((zoom.start / 100) * last))];
  const end = times[Math.min(last, Math.ceil((zoom.end / 100) * last))] + shown.step_ms;
  const isWhole = shown.start_ms <= shown.all[0] && shown.end_ms >= shown.all[1];
  const span = end - start;
  const isFar = zoom.end - zoom.start > 95;
  if (isFar && isWhole) return null;
  const isCoarse = shown.step_ms > shown.candle_ms && span < (shown.end_ms - shown.start_ms) * 0.45;
  const isAtEdge = !isWhole && (zoom.start < 2 || zoom.end > 98);
  if (!isFar && !isAtEdge && !isCoarse) return null;
  const room = isFar ? span * 1.5 : span * 0.5;
  const load = [Math.max(shown.all[0], Math.floor(start - room)), Math.min(shown.all[1], Math.ceil(end + room))];
  if (load[0] === shown.start_ms && load[1] === shown.end_ms) return null;
  return { seen: isFar ? load : [start, end - shown.step_ms], load };
}

// The last candle that opens at or before a time.
function placeOf(candles, ms) {
  let [low, high] = [0, candles.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (candles[middle][0] <= ms) low = middle;
    else high = middle - 1;
  }
  return low;
}

function option(shown, seen, paint, isNarrow) {
  const look = axisLook(paint);
  return {
    grid: { left: isNarrow ? 52 : 72, right: 14, top: 14, bottom: 78 },
    xAxis: {
      type: "category",
      data: shown.candles.map((row) => moment(row[0])),
      ...look,
      splitLine: { show: false },
    },
    yAxis: { type: "value", scale: true, ...look, axisLabel: { ...look.axisLabel, formatter: short } },
    tooltip: { trigger: "axis", axisPointer: { type: "cross" }, formatter: (points) => tip(points, shown) },
    dataZoom: [
      { type: "inside", ...seen, zoomOnMouseWheel: true },
      { type: "slider", ...seen, height: 22, bottom: 12, borderColor: paint.line, textStyle: { color: paint.soft } },
    ],
    series: [
      {
        type: "candlestick",
        name: "candles",
        data: shown.candles.map(([, open, high, low, close]) => [open, close, low, high]),
        itemStyle: { color: paint.good, borderColor: paint.good, color0: paint.bad, borderColor0: paint.bad },
      },
      held(shown, paint),
      ...markers(shown, paint),
    ],
  };
}

// A line from entry to exit: green for a gain.
function held(shown, paint) {
  return {
    type: "custom",
    name: "held",
    clip: true,
    silent: true,
    data: shown.trades.map((trade) => [
      placeOf(shown.candles, trade.entry_ms),
      trade.entry_price,
      placeOf(shown.candles, trade.exit_ms),
      trade.exit_price,
      trade.pnl,
    ]),
    encode: { x: [0, 2], y: [1, 3] },
    renderItem: (_, api) => {
      const [x1, y1] = api.coord([api.value(0), api.value(1)]);
      const [x2, y2] = api.coord([api.value(2), api.value(3)]);
      const stroke = api.value(4) > 0 ? paint.good : paint.bad;
      return { type: "line", shape: { x1, y1, x2, y2 }, style: { stroke, lineWidth: 1.5, lineDash: [4, 3] } };
    },
  };
}

function markers(shown, paint) {
  const fills = shown.trades.flatMap((trade) => [
    { isBuy: trade.size > 0, ms: trade.entry_ms, price: trade.entry_price },
    { isBuy: trade.size < 0, ms: trade.exit_ms, price: trade.exit_price },
  ]);
  const side = (isBuy) => ({
    type: "scatter",
    name: isBuy ? "bought" : "sold",
    symbol: "triangle",
    symbolRotate: isBuy ? 0 : 180,
    symbolSize: shown.trades.length > CROWD ? 6 : 11,
    z: 5,
    itemStyle: { color: isBuy ? paint.link : paint.warn, borderColor: paint.card, borderWidth: 1 },
    data: fills
      .filter((fill) => fill.isBuy === isBuy && fill.ms >= shown.start_ms && fill.ms < shown.end_ms)
      .map((fill) => [placeOf(shown.candles, fill.ms), fill.price]),
  });
  return [side(true), side(false)];
}

function tip(points, shown) {
  const place = points[0].dataIndex;
  const candle = points.find((one) => one.seriesType === "candlestick");
  const at = candle ? candle.dataIndex : place;
  const row = shown.candles[at];
  if (!row) return "";
  const [ms, open, high, low, close] = row;
  const trades = shown.trades.filter(
    (trade) => placeOf(shown.candles, trade.entry_ms) === at || placeOf(shown.candles, trade.exit_ms) === at,
  );
  return lines(
    `${moment(ms)} UTC`,
    `open ${short(open)}  high ${short(high)}  low ${short(low)}  close ${short(close)}`,
    ...trades.slice(0, 4).map(tradeWords),
    trades.length > 4 && `and ${trades.length - 4} more trades`,
  );
}

function tradeWords(trade) {
  const side = trade.size > 0 ? "long" : "short";
  return `${side} ${short(trade.entry_price)} → ${short(trade.exit_price)}: ${percent(trade.return_ratio)} (${trade.reason})`;
}

function say(shown) {
  const minutes = shown.step_ms / 60000;
  const length = minutes >= 1440 ? `${minutes / 1440} d` : minutes >= 60 ? `${minutes / 60} h` : `${minutes} min`;
  const some = shown.inside > shown.trades.length ? `the first ${shown.trades.length} of ${shown.inside}` : `${shown.inside}`;
  document.getElementById("candles-note").textContent =
    `Each candle is ${length}; ${some} of ${shown.total} trades are in what is loaded. ` +
    "Scroll to zoom, drag to move: finer candles come as you do. ▲ bought, ▼ sold.";
}

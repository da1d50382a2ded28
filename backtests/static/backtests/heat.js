// A metric over two parameters; over one, as bars.

import { axisLook, chart, getJson, lines, percent, sayInstead, short } from "./chart.js";

const PERCENT = /_ratio$/;
const MAX_LABELS = 22; // one above the other

export function drawHeat(told) {
  const element = document.getElementById("heat");
  const form = document.getElementById("heat-form");
  const note = document.getElementById("heat-note");
  if ((told.varied ?? []).length < 2) form.elements.y.value = "";
  let shown = null;
  let drawn = null;

  async function ask() {
    const { x, y, metric, others } = Object.fromEntries(new FormData(form));
    try {
      shown = await getJson(told.urls.heat, { x, y: y === x ? "" : y, metric, others });
    } catch (error) {
      note.textContent = error.message;
      return;
    }
    note.textContent = words(shown);
    if (!shown.cells.length) return sayInstead(element, "There are no trials.");
    if (drawn) drawn.draw();
    else drawn = chart(element, (paint, isNarrow) => option(shown, paint, isNarrow));
  }
  form.addEventListener("change", ask);
  form.addEventListener("submit", (event) => event.preventDefault());
  ask();
}

function words(shown) {
  const empty = shown.cells.filter((cell) => cell[2] === null).length;
  const how =
    shown.others === "fixed"
      ? "Only trials whose other parameters are the winner’s."
      : `Each cell is the ${shown.lower_is_better ? "lowest" : "highest"} of its trials.`;
  const none = empty ? ` ${empty} cells (dots) have no value${shown.metric === "score" ? ": no trial of theirs passed the gates" : ""}.` : "";
  return `In sample. ${how} The frame is the winner.${shown.y.name ? none : none.replace(" (dots)", "")}`;
}

function text(shown, value) {
  return PERCENT.test(shown.metric) && value !== null ? percent(value) : short(value);
}

function option(shown, paint, isNarrow) {
  return shown.y.name ? map(shown, paint, isNarrow) : bars(shown, paint, isNarrow);
}

function map(shown, paint, isNarrow) {
  const look = axisLook(paint);
  const known = shown.cells.filter((cell) => cell[2] !== null);
  const values = known.map((cell) => cell[2]);
  const colours = [paint.bad, paint.missing, paint.good];
  const interval = Math.ceil(shown.y.labels.length / MAX_LABELS) - 1;
  return {
    grid: { left: isNarrow ? 58 : 84, right: isNarrow ? 12 : 96, top: 16, bottom: isNarrow ? 96 : 56 },
    xAxis: { type: "category", data: shown.x.labels, name: shown.x.name, nameLocation: "middle", nameGap: 30, ...look, splitArea: { show: false } },
    yAxis: { type: "category", data: shown.y.labels, name: isNarrow ? "" : shown.y.name, nameLocation: "middle", nameGap: 58, ...look, axisLabel: { ...look.axisLabel, interval } },
    tooltip: {
      formatter: ({ data }) => {
        const [x, y, value, count] = data.value;
        const names = `${shown.x.name} ${shown.x.labels[x]}, ${shown.y.name} ${shown.y.labels[y]}`;
        return lines(names, `${shown.metric}: ${text(shown, value)}`, count > 1 && `of ${count} trials`);
      },
    },
    visualMap: {
      type: "continuous",
      min: values.length ? Math.min(...values) : 0,
      max: values.length ? Math.max(...values) : 1,
      dimension: 2,
      seriesIndex: 0,
      calculable: true,
      orient: isNarrow ? "horizontal" : "vertical",
      left: isNarrow ? "center" : "right",
      bottom: isNarrow ? 0 : "center",
      itemHeight: isNarrow ? 140 : 180,
      textStyle: { color: paint.soft },
      formatter: (value) => text(shown, value),
      inRange: { color: shown.lower_is_better ? colours.reverse() : colours },
    },
    series: [
      {
        type: "heatmap",
        // The winner last: its frame lies over its neighbours.
        data: known.sort((one, other) => isBest(shown, one) - isBest(shown, other)).map((cell) => ({
          value: cell,
          itemStyle: isBest(shown, cell)
            ? { borderColor: paint.text, borderWidth: 2.5 }
            : { borderColor: paint.card, borderWidth: 1 },
        })),
        emphasis: { itemStyle: { borderColor: paint.link, borderWidth: 2 } },
      },
      {
        // Tried, and without a value.
        type: "scatter",
        symbolSize: 4,
        itemStyle: { color: paint.soft, opacity: 0.6 },
        data: shown.cells.filter((cell) => cell[2] === null).map((cell) => ({ value: cell })),
      },
    ],
  };
}

function isBest(shown, cell) {
  return Boolean(shown.best) && shown.best[0] === cell[0] && shown.best[1] === cell[1];
}

function bars(shown, paint, isNarrow) {
  const look = axisLook(paint);
  const by = new Map(shown.cells.map((cell) => [cell[0], cell]));
  return {
    grid: { left: isNarrow ? 58 : 84, right: 14, top: 16, bottom: 56 },
    xAxis: { type: "category", data: shown.x.labels, name: shown.x.name, nameLocation: "middle", nameGap: 30, ...look },
    yAxis: { type: "value", ...look, axisLabel: { ...look.axisLabel, formatter: (value) => text(shown, value) } },
    tooltip: {
      formatter: ({ dataIndex }) => {
        const cell = by.get(dataIndex);
        return lines(`${shown.x.name} ${shown.x.labels[dataIndex]}`, `${shown.metric}: ${text(shown, cell ? cell[2] : null)}`);
      },
    },
    series: [
      {
        type: "bar",
        data: shown.x.labels.map((_, place) => ({
          value: by.get(place)?.[2] ?? null,
          itemStyle: {
            color: (by.get(place)?.[2] ?? 0) < 0 ? paint.bad : paint.good,
            borderColor: paint.text,
            borderWidth: shown.best && shown.best[0] === place ? 2.5 : 0,
          },
        })),
      },
    ],
  };
}

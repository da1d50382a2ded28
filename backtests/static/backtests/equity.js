// Equity above, drawdown below: in sample and out of sample apart, or the folds as bands.

import { axisLook, chart, getJson, lines, moment, percent, sayInstead, short } from "./chart.js";

const NAMES = { in_sample: "In sample", out_of_sample: "Out of sample" };

export async function drawEquity(told) {
  const element = document.getElementById("equity");
  try {
    const { parts } = await getJson(told.urls.equity);
    if (!parts.length) return sayInstead(element, "There is no equity.");
    chart(element, (paint, isNarrow) => option(parts, told, paint, isNarrow));
  } catch (error) {
    sayInstead(element, error.message);
  }
}

function option(parts, told, paint, isNarrow) {
  const look = axisLook(paint);
  const left = isNarrow ? 52 : 72;
  const range = { min: parts[0].start_ms, max: parts.at(-1).end_ms };
  return {
    legend: { data: parts.map(nameOf), textStyle: { color: paint.soft }, top: 0 },
    grid: [
      { left, right: 14, top: 34, height: "52%" },
      { left, right: 14, top: "72%", bottom: 34 },
    ],
    xAxis: [
      { type: "time", gridIndex: 0, ...range, ...look, splitLine: { show: false }, axisLabel: { show: false } },
      { type: "time", gridIndex: 1, ...range, ...look, splitLine: { show: false } },
    ],
    yAxis: [
      { type: "value", gridIndex: 0, scale: true, ...look, axisLabel: { ...look.axisLabel, formatter: short } },
      { type: "value", gridIndex: 1, max: 0, splitNumber: 3, ...look, axisLabel: { ...look.axisLabel, formatter: (value) => percent(value, 0) } },
    ],
    axisPointer: { link: [{ xAxisIndex: "all" }] },
    tooltip: { trigger: "axis", axisPointer: { type: "line" }, formatter: tip },
    dataZoom: [{ type: "inside", xAxisIndex: [0, 1], zoomOnMouseWheel: "ctrl", filterMode: "none" }],
    series: parts.flatMap((part) => series(part, parts, told, paint)),
  };
}

function nameOf(part) {
  return NAMES[part.part] ?? part.part;
}

function series(part, parts, told, paint) {
  const colour = part.part === "out_of_sample" ? paint.good : paint.link;
  const base = { type: "line", name: nameOf(part), showSymbol: false, itemStyle: { color: colour } };
  return [
    { ...base, data: part.equity, lineStyle: { width: 1.6, color: colour }, ...marks(part, parts, told, paint) },
    {
      ...base,
      xAxisIndex: 1,
      yAxisIndex: 1,
      data: part.drawdown,
      lineStyle: { width: 1, color: paint.bad },
      itemStyle: { color: paint.bad },
      areaStyle: { color: paint.bad, opacity: 0.18, origin: "end" },
    },
  ];
}

function marks(part, parts, told, paint) {
  if (told.folds) {
    const bands = told.folds.filter((_, place) => place % 2 === 0);
    return {
      markArea: {
        silent: true,
        itemStyle: { color: paint.soft, opacity: 0.09 },
        data: bands.map((fold) => [{ xAxis: Date.parse(fold.test[0]) }, { xAxis: Date.parse(fold.test[1]) }]),
      },
    };
  }
  if (part !== parts[1]) return {};
  return {
    markLine: {
      silent: true,
      symbol: "none",
      lineStyle: { color: paint.soft, type: "dashed" },
      label: { formatter: "out of sample →", color: paint.soft, position: "end", distance: 4 },
      data: [{ xAxis: part.start_ms }],
    },
  };
}

function tip(points) {
  const [equity, drawdown] = [points.find((one) => one.axisIndex === 0), points.find((one) => one.axisIndex === 1)];
  return lines(
    `${moment(points[0].axisValue)} UTC`,
    equity && `${equity.seriesName}: ${short(equity.value[1])}`,
    drawdown && `Drawdown: ${percent(drawdown.value[1])}`,
  );
}

// The folds of a walk-forward along the time: where each was searched, where it was tested.

import { axisLook, chart, lines, moment, short } from "./chart.js";

export function drawFolds(told) {
  const element = document.getElementById("folds");
  element.style.height = `${Math.min(900, 70 + told.folds.length * 30)}px`;
  chart(element, (paint, isNarrow) => option(told.folds, paint, isNarrow));
}

function option(folds, paint, isNarrow) {
  const look = axisLook(paint);
  const bars = folds.flatMap((fold, place) =>
    ["train", "test"].map((name) => [Date.parse(fold[name][0]), Date.parse(fold[name][1]), place, name === "test" ? 1 : 0]),
  );
  return {
    grid: { left: isNarrow ? 34 : 60, right: 18, top: 10, bottom: 34 },
    xAxis: { type: "time", min: "dataMin", max: "dataMax", ...look },
    yAxis: { type: "category", inverse: true, data: folds.map((fold) => String(fold.number)), name: "fold", ...look, splitLine: { show: false } },
    tooltip: { formatter: ({ value }) => tip(folds[value[2]], value) },
    series: [
      {
        type: "custom",
        data: bars,
        encode: { x: [0, 1], y: 2 },
        renderItem: (_, api) => rectangle(api, folds, paint),
      },
    ],
  };
}

function rectangle(api, folds, paint) {
  const [x, y] = api.coord([api.value(0), api.value(2)]);
  const [end] = api.coord([api.value(1), api.value(2)]);
  const height = Math.min(20, api.size([0, 1])[1] * 0.7);
  const fold = folds[api.value(2)];
  const isTest = api.value(3) === 1;
  const fill = isTest ? (fold.out_of_sample > 0 ? paint.good : paint.bad) : paint.link;
  const width = Math.max(2, end - x);
  return {
    type: "rect",
    shape: { x, y: y - height / 2, width, height, r: 3 },
    style: { fill, opacity: isTest ? 1 : 0.35 },
    textContent: width > 44 ? { style: { text: short(isTest ? fold.out_of_sample : fold.in_sample), fill: isTest ? paint.card : paint.text, fontSize: 11.5 } } : undefined,
    textConfig: { position: "inside" },
  };
}

function tip(fold, value) {
  const isTest = value[3] === 1;
  return lines(
    `Fold ${fold.number}, ${isTest ? "test window" : "train window"}`,
    `${moment(value[0])} – ${moment(value[1])} UTC`,
    `${isTest ? "Out of sample" : "In sample"}: ${short(isTest ? fold.out_of_sample : fold.in_sample)}`,
  );
}

// What all charts share: asking for data, the page's colours, light and dark, and its width.

export async function getJson(url, params = {}) {
  const query = new URLSearchParams(params).toString();
  const answer = await fetch(query ? `${url}?${query}` : url, { headers: { Accept: "application/json" } });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(body?.error?.message ?? `HTTP ${answer.status}`);
  return body;
}

export function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    text: read("--text"),
    soft: read("--soft"),
    line: read("--line"),
    card: read("--card"),
    link: read("--link"),
    good: read("--fresh"),
    goodGround: read("--fresh-ground"),
    bad: read("--stale"),
    badGround: read("--stale-ground"),
    warn: read("--degraded"),
    missing: read("--missing-ground"),
  };
}

// `option(colours, isNarrow)` is asked again when the page turns dark or light, or gets narrow.
export function chart(element, option) {
  const made = window.echarts.init(element, null, { renderer: "canvas" });
  let isNarrow = element.clientWidth < 560;
  const draw = () => made.setOption(withBase(option(colours(), isNarrow)), { notMerge: true });
  new ResizeObserver(() => {
    made.resize();
    const now = element.clientWidth < 560;
    if (now !== isNarrow) {
      isNarrow = now;
      draw();
    }
  }).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  return { made, draw };
}

function withBase(option) {
  const paint = colours();
  return {
    useUTC: true,
    animation: false,
    backgroundColor: "transparent",
    textStyle: { fontFamily: "inherit", color: paint.soft },
    ...option,
    tooltip: {
      backgroundColor: paint.card,
      borderColor: paint.line,
      textStyle: { color: paint.text, fontSize: 12.5 },
      confine: true,
      ...option.tooltip,
    },
  };
}

export function axisLook(paint) {
  return {
    axisLine: { lineStyle: { color: paint.line } },
    axisTick: { lineStyle: { color: paint.line } },
    axisLabel: { color: paint.soft, hideOverlap: true },
    splitLine: { lineStyle: { color: paint.line } },
    nameTextStyle: { color: paint.soft },
  };
}

export function sayInstead(element, message) {
  const text = document.createElement("p");
  text.className = "empty";
  text.textContent = message;
  element.replaceChildren(text);
  element.classList.remove("tall");
  element.classList.add("said");
}

export function moment(ms) {
  return new Date(ms).toISOString().replace("T", " ").slice(0, 16);
}

export function percent(ratio, digits = 2) {
  return `${(ratio * 100).toFixed(digits)} %`;
}

export function short(value) {
  if (value === null || value === undefined) return "—";
  const size = Math.abs(value);
  if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return String(Number(value.toPrecision(4)));
}

// Texts of a tooltip come from our own numbers and from names: escaped, whatever they are.
export function lines(...texts) {
  return texts.filter(Boolean).map(window.echarts.format.encodeHTML).join("<br>");
}

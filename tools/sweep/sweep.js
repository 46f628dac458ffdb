// Learning curves of all trials, and the metric against each parameter that differs. experiments.js has the scales.

const WIDE = 360, HIGH = 240, EDGE = { left: 78, right: 14, top: 34, bottom: 34 };
const ranked = new Map(compared.toSorted((one, other) => better(other, one)).map((run, at) => [run, compared.length > 1 ? at / (compared.length - 1) : 1]));
const colourOf = (run) => `color-mix(in srgb, rgb(var(--blue)) ${100 * ranked.get(run)}%, rgb(var(--orange)))`;
const across = (share) => EDGE.left + share * (WIDE - EDGE.left - EDGE.right);
const down = (share) => HIGH - EDGE.bottom - share * (HIGH - EDGE.top - EDGE.bottom);
const rounded = (value) => (typeof value === "number" ? String(Number(value.toPrecision(3))) : short(String(value), 12));

function plot(title, below, left, right, vertical, marks) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": title });
  picture.append(
    svg("text", { x: EDGE.left, y: 18 }, title),
    svg("line", { class: "axis", x1: across(0), x2: across(1), y1: down(0), y2: down(0) }),
    svg("line", { class: "axis", x1: across(0), x2: across(0), y1: down(0), y2: down(1) }),
    svg("text", { class: "tick", x: across(0), y: HIGH - 10 }, left),
    svg("text", { class: "tick", x: across(1), y: HIGH - 10, "text-anchor": "end" }, right),
    svg("text", { class: "tick", x: across(0.5), y: HIGH - 10, "text-anchor": "middle" }, below),
    ...vertical.ticks.map(({ at, text }) => svg("text", { class: "tick", x: EDGE.left - 11, y: down(at) + 4, "text-anchor": "end" }, text)),
  );
  for (const [run, mark] of marks) {
    mark.append(svg("title", {}, `${run.name}: ${FORMS[objective.form](objective.of(run))}`));
    mark.addEventListener("click", () => choose(run, !state.chosen.includes(run)));
    picture.append(mark);
  }
  $("#plots").append(make("div", { className: "card plot" }, picture));
}

function plotCurves() {
  const curve = (run) => run.history[runs.objective];
  const drawn = compared.filter((run) => curve(run).length);
  if (!drawn.length) return;
  const vertical = objectiveScale(drawn.flatMap(curve));
  const last = Math.max(...drawn.map((run) => curve(run).length));
  const x = (at) => across(last > 1 ? at / (last - 1) : 0.5);
  plot("Learning curves", "epoch", "1", last > 1 ? String(last) : "", vertical, drawn.map((run) => {
    const points = curve(run).map((value, at) => `${x(at)},${down(vertical.place(value))}`);
    if (points.length > 1) return [run, svg("path", { d: `M${points.join("L")}`, style: `stroke: ${colourOf(run)}` })];
    const [cx, cy] = points[0].split(",");
    return [run, svg("circle", { cx, cy, r: 4, style: `fill: ${colourOf(run)}` })];
  }));
}

function plotParameter(column) {
  const values = [...new Set(compared.map(column.of))];
  const order = orderScale(values);
  const [first, last] = [order.ordered[0], order.ordered.at(-1)];
  const horizontal = values.every((value) => typeof value === "number") ? numberScale(values) : order;
  const vertical = objectiveScale(compared.map(objective.of));
  plot(`${short(column.name, 24)}${horizontal.isLog ? " (log scale)" : ""}`, "", rounded(first), rounded(last), vertical, compared.map((run) => [run, svg("circle", {
    cx: across(horizontal.place(column.of(run))), cy: down(vertical.place(objective.of(run))), r: 5, style: `fill: ${colourOf(run)}`,
  })]));
}

plotCurves();
columns.filter((column) => column.isParameter && new Set(compared.map(column.of)).size > 1).forEach(plotParameter);
document.querySelectorAll(".bars i").forEach((bar) => { bar.style.width = `${100 * Number(bar.dataset.share)}%`; });
state.sort = objective;
state.down = !runs.lower;
show();

const COLOURS = charts.accuracy.encoding.color.scale.range;
const FIRST = 25; // rows that are drawn at first
const MOST = 8; // runs that are chosen at once

const short = (name, most = 28) => (name.length > most ? `${name.slice(0, most / 2)}…${name.slice(1 - most / 2)}` : name);
const signed = (value, digits) => {
  const shown = Math.abs(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return /[1-9]/.test(shown) ? `${value > 0 ? "+" : "\u2212"}${shown}` : shown;
};
const FORMS = {
  percent: (value) => `${(100 * value).toFixed(2)}%`,
  count: (value) => value.toLocaleString("en"),
  number: (value) => value.toFixed(4),
  plain: (value) => String(value),
};
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values) => Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1));

// A parameter goes by its name alone where no other has it.
const lasts = runs.params.map(({ name }) => name.split(".").at(-1));
const labelOf = (name) => (lasts.filter((last) => last === name.split(".").at(-1)).length > 1 ? name : name.split(".").at(-1));

// Columns: the metrics, the parameters, then what else is known.
const columns = [
  { name: "date", form: "plain", shown: true, of: (run) => run.date },
  ...runs.metrics.map(({ name, form, shown }, place) => ({ name, form, shown, of: (run) => run.metrics[place] })),
  ...runs.params.map(({ name, shown }, place) => ({ name, label: labelOf(name), form: "plain", shown, isParameter: true, of: (run) => run.params[place] })),
  { name: "test images", form: "plain", shown: runs.sets > 1, of: (run) => run.tested },
  { name: "kind", form: "plain", shown: false, of: (run) => run.kind },
  { name: "reason", form: "plain", shown: true, of: (run) => run.reason },
  { name: "commit", form: "plain", shown: false, of: (run) => run.commit },
  { name: "based on", form: "plain", shown: false, of: (run) => run.subject },
  { name: "author", form: "plain", shown: false, of: (run) => run.author },
].filter(({ isParameter, of }) => isParameter || runs.rows.some((run) => of(run) != null && of(run) !== ""));
// The first metric decides which runs are better: higher ones, unless the page says lower ones.
const objective = columns.find(({ name }) => name === runs.metrics[0].name);
const better = (one, other) => (runs.lower ? 1 : -1) * (objective.of(one) - objective.of(other));
const compared = runs.rows.filter((run) => run.set === 0 && objective.of(run) != null);
const seed = columns.find(({ name }) => name === "train.seed");
runs.rows.forEach((run, place) => {
  run.place = place;
  run.text = [run.name, ...columns.map((column) => column.of(run))].join("\n").toLowerCase();
});

const state = { sort: null, down: true, seeds: false, open: new Set(), chosen: [], rows: FIRST, brushes: new Map() };
const $ = (selector) => document.querySelector(selector);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// What is written into the filter: words, and conditions such as train.epochs>=10.
function wanted() {
  const tests = $("#filter").value.trim().toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const [, name, sign, value] = /^([^<>=!]+)(>=|<=|!=|>|<|=)(.+)$/.exec(word) ?? [];
    const column = name && columns.find((each) => each.name.replaceAll(" ", "-") === name || each.name === name || each.name.split(/[. ]/).at(-1) === name);
    if (!column) return (run) => run.text.includes(word);
    const number = value.endsWith("%") ? Number(value.slice(0, -1)) / 100 : Number(value);
    return (run) => {
      const found = column.of(run);
      const [one, other] = typeof found === "number" && !Number.isNaN(number) ? [found, number] : [String(found ?? "").toLowerCase(), value];
      return { ">=": one >= other, "<=": one <= other, "!=": one !== other, ">": one > other, "<": one < other, "=": one === other }[sign];
    };
  });
  for (const [column, [low, high]] of state.brushes) {
    tests.push((run) => { const at = column.scale.place(column.of(run)); return at >= low && at <= high; });
  }
  return runs.rows.filter((run) => tests.every((test) => test(run)));
}

const compare = (one, other) => {
  if (one == null || other == null) return (one == null) - (other == null);
  return typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
};

// Rows of the table: runs, or candidates with their seeds.
function items() {
  const found = wanted();
  const groups = new Map();
  for (const run of found) {
    const key = state.seeds ? run.candidate : run.place;
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  const rows = [...groups].map(([key, members]) => ({ key, members }));
  if (state.sort) {
    const value = ({ members }) => {
      const values = members.map(state.sort.of);
      return values.length > 1 && values.every((each) => typeof each === "number") ? mean(values) : values[0];
    };
    const name = ({ members }) => members[0].name;
    const read = state.sort.name === "name" ? name : value;
    rows.sort((one, other) => {
      const [a, b] = [read(one), read(other)];
      return (state.down && a != null && b != null ? -1 : 1) * compare(a, b); // what has no value comes last
    });
  }
  return { rows, found };
}

function cell(column, members) {
  const values = members.map(column.of).filter((value) => value != null && value !== "");
  const isText = values.some((value) => typeof value !== "number");
  const td = make("td", { className: isText ? "text" : "" });
  if (!values.length) return td;
  const same = values.every((value) => value === values[0]);
  if (same || isText) {
    td.textContent = same ? FORMS[isText ? "plain" : column.form](values[0]) : column.name === "date" ? values.toSorted().at(-1) : `${new Set(values).size} values`;
  } else if (column.isParameter) {
    td.textContent = values.toSorted((a, b) => a - b).join(", ");
  } else {
    const form = column.form === "count" ? (value) => value.toFixed(1) : FORMS[column.form];
    td.append(form(mean(values)), make("small", { textContent: ` ± ${form(deviation(values))}` }));
  }
  const interval = members.length === 1 && column === objective && members[0].interval;
  if (interval) td.append(make("small", { textContent: ` ${(100 * interval[0]).toFixed(2)}–${(100 * interval[1]).toFixed(2)}`, title: "95% interval" }));
  return td;
}

function row(members, className = "") {
  const [run] = members;
  const box = make("input", { type: "checkbox", checked: state.chosen.includes(run) });
  box.addEventListener("change", () => choose(run, box.checked));
  const name = make("span", { textContent: short(run.name), title: run.name });
  const kind = run.kind === "experiment" ? [] : [make("span", { className: "kind", textContent: run.kind })];
  const head = make("th", { scope: "row" }, make("label", { className: "check" }, box, name, ...kind));
  const tr = make("tr", { className, ariaSelected: state.chosen.includes(run) }, head);
  tr.append(...columns.filter(({ shown }) => shown).map((column) => cell(column, members)));
  return tr;
}

function groupRow({ key, members }) {
  const isOpen = state.open.has(key);
  const button = make("button", { type: "button", ariaExpanded: isOpen, textContent: `${isOpen ? "▾" : "▸"} ${members.length} seeds: ${short(members[0].name)} …` });
  button.addEventListener("click", () => { isOpen ? state.open.delete(key) : state.open.add(key); show(); });
  const tr = make("tr", { className: "group-row" }, make("th", { scope: "row" }, button));
  tr.append(...columns.filter(({ shown }) => shown).map((column) => cell(column, members)));
  return [tr, ...(isOpen ? members.map((run) => row([run], "of-group")) : [])];
}

function head() {
  const tr = make("tr");
  for (const column of [{ name: "name", of: (run) => run.name }, ...columns.filter(({ shown }) => shown)]) {
    const sorted = state.sort?.name === column.name;
    const button = make("button", { type: "button", title: column.name, textContent: `${column.label ?? column.name}${sorted ? (state.down ? " ▼" : " ▲") : ""}` });
    button.addEventListener("click", () => {
      state.down = sorted ? !state.down : column.form !== undefined;
      state.sort = column;
      show();
    });
    const isText = column.form === undefined || runs.rows.some((run) => typeof column.of(run) === "string");
    tr.append(make("th", { scope: "col", className: isText ? "text" : "", ariaSort: sorted ? (state.down ? "descending" : "ascending") : "none" }, button));
  }
  $("#table thead").replaceChildren(tr);
}

function show() {
  const { rows, found } = items();
  head();
  const drawn = rows.slice(0, state.rows).flatMap((item) => (item.members.length > 1 ? groupRow(item) : [row(item.members)]));
  $("#table tbody").replaceChildren(...drawn);
  $("#more").hidden = rows.length <= state.rows;
  $("#more").textContent = `Show all ${rows.length.toLocaleString("en")}`;
  $("#status").textContent = `${found.length.toLocaleString("en")} of ${runs.rows.length.toLocaleString("en")} runs${state.seeds ? `, ${rows.length.toLocaleString("en")} candidates` : ""}`;
  drawParallel(found);
}

// What is chosen

function choose(run, isChosen) {
  state.chosen = state.chosen.filter((other) => other !== run);
  if (isChosen) state.chosen = [...state.chosen, run].slice(-MOST);
  show();
  showChosen();
}

const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const revision = (run) => (run.kind === "workspace" ? "workspace" : run.name);

// The name of the page about two commits, if it was there when this one was made.
function comparisonOf(...pair) {
  if (pair.some(({ kind }) => kind === "workspace")) return null;
  const [one, other] = pair.map(({ commit }) => commit);
  return [`compare-${one}-${other}.html`, `compare-${other}-${one}.html`].find((name) => comparisons.has(name)) ?? null;
}

function showChosen() {
  const { chosen } = state;
  $("#chosen").hidden = !chosen.length;
  $("#chosen-names").textContent = chosen.map(({ name }) => `“${short(name)}”`).join(", ");
  const isPair = chosen.length === 2;
  const ready = isPair && comparisonOf(...chosen);
  $("#pair").hidden = !isPair;
  $("#command").parentElement.hidden = !isPair || ready;
  $("#ready").hidden = !ready;
  if (ready) $("#ready a").href = ready;
  $("#choose-two").hidden = isPair;
  $("#take").hidden = chosen.length !== 1 || !chosen[0].command;
  $("#take-command").textContent = chosen[0]?.command ?? "";
  if (isPair) {
    $("#command").textContent = `make compare REV=${quote(revision(chosen[0]))} REV2=${quote(revision(chosen[1]))}`;
    const apart = chosen[0].set !== chosen[1].set;
    $("#apart").hidden = !apart;
    $("#apart").textContent = `They were tested on other images, so their figures do not compare: ${chosen[0].tested} against ${chosen[1].tested}.`;
    const head = ["", ...chosen.map(({ name }) => short(name)), ...(apart ? [] : ["difference"])].map((textContent) => make("th", { scope: "col", textContent }));
    $("#differences thead").replaceChildren(make("tr", {}, ...head));
    const differing = columns.filter(({ name, of }) => !["date", "commit", "kind", "based on", "author", "test images"].includes(name) && of(chosen[0]) !== of(chosen[1]));
    $("#differences tbody").replaceChildren(...differing.map((column) => {
      const values = chosen.map(column.of);
      const isMetric = !column.isParameter && values.every((value) => typeof value === "number");
      const change = values[1] - values[0];
      const difference = !isMetric ? "" : column.form === "percent" ? `${signed(100 * change, 2)} points` : signed(change, column.form === "count" ? 0 : 4);
      const cells = values.map((value) => make("td", { textContent: value == null || value === "" ? "none" : FORMS[typeof value === "number" ? column.form : "plain"](value) }));
      return make("tr", {}, make("th", { scope: "row", textContent: column.name }), ...cells, ...(apart ? [] : [make("td", { textContent: difference })]));
    }));
  }
  drawCurves();
}

function drawCurves() {
  const best = compared.toSorted(better).slice(0, 5);
  const drawn = state.chosen.length ? state.chosen : best;
  $("#curves-title").textContent = state.chosen.length ? "Curves of the chosen runs" : `Curves of the best ${drawn.length}, until you choose others`;
  for (const [quantity, chart] of Object.entries(charts)) {
    const spec = structuredClone(chart);
    spec.data.values = drawn.flatMap(({ name, history }) => ["training", "validation"].flatMap((part) =>
      history[`${part}_${quantity}`].map((value, at) => ({ rev: name, field: `${part}_${quantity}`, epoch: at + 1, value }))));
    vegaEmbed(`#${quantity}`, spec);
  }
}

// Parallel coordinates: the shown parameters that differ between these runs, then the test accuracy.

const SVG = "http://www.w3.org/2000/svg";
const svg = (tag, attributes, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

// Place the values of an axis between 0, below, and 1, above.
function scaleOf(column) {
  if (column === objective) return objectiveScale(compared.map(column.of));
  const values = [...new Set(compared.map(column.of).filter((value) => value != null && value !== ""))];
  const numbers = values.every((value) => typeof value === "number");
  const text = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : short(String(value), 14));
  if (!numbers || values.length <= 12) {
    const { ordered, place } = orderScale(values);
    const shown = ordered.length <= 12 ? ordered : [ordered[0], ordered.at(-1)];
    return { place, ticks: shown.map((value) => ({ at: place(value), text: text(value) })) };
  }
  const { place, value } = numberScale(values);
  return { place, ticks: [0, 0.25, 0.5, 0.75, 1].map((at) => ({ at, text: text(value(at)) })) };
}

// Place different values at equal distances, in their order.
function orderScale(values) {
  const ordered = values.toSorted(compare);
  const places = new Map(ordered.map((value, at) => [value, ordered.length > 1 ? at / (ordered.length - 1) : 0.5]));
  return { ordered, place: (value) => places.get(value) ?? -1 };
}

// Place different numbers by their size, on a log scale if they span a factor of 10. `value` is the inverse.
function numberScale(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const isLog = low > 0 && high / low >= 10;
  const [number, back] = isLog ? [Math.log, Math.exp] : [(value) => value, (value) => value];
  const [first, last] = [number(low), number(high)];
  return {
    isLog,
    place: (value) => (typeof value === "number" ? (number(value) - first) / (last - first) : -1),
    value: (place) => back(first + place * (last - first)),
  };
}

// Errors or losses of more than three times the median are placed at the worse end. Otherwise one run that learned
// nothing would lay all others on one spot.
function objectiveScale(values) {
  const worseness = (value) => (runs.lower ? value : 1 - value);
  const ordered = values.map(worseness).toSorted((one, other) => one - other);
  const [best, last] = [ordered[0], ordered.at(-1)];
  const worst = Math.max(best, Math.min(last, 3 * ordered[Math.floor(ordered.length / 2)]));
  const place = (value) => {
    const share = worst > best ? (worst - Math.min(worseness(value), worst)) / (worst - best) : 0.5;
    return runs.lower ? 1 - share : share;
  };
  const cut = (share) => (share === 0 && worst < last ? (runs.lower ? "≥ " : "≤ ") : "");
  return {
    place,
    ticks: (worst > best ? [0, 0.25, 0.5, 0.75, 1] : [1]).map((share) => {
      const value = worseness(worst - share * (worst - best));  // its own inverse
      return { at: place(value), text: cut(share) + FORMS[objective.form](value) };
    }),
  };
}

const HEIGHT = 320, TOP = 40, GAP = 130, LEFT = 70;

function drawParallel(all) {
  const found = all.filter((run) => compared.includes(run));
  const differs = ({ of }) => new Set(compared.map(of)).size > 1;
  const axes = [...columns.filter((column) => column.isParameter && column.shown && differs(column)), objective];
  const picture = $("#parallel");
  const width = LEFT + (axes.length - 1) * GAP + 110;
  for (const [name, value] of Object.entries({ width, height: HEIGHT + TOP + 30, viewBox: `0 0 ${width} ${HEIGHT + TOP + 30}` })) picture.setAttribute(name, value);
  const y = (column, run) => TOP + HEIGHT * (1 - column.scale.place(column.of(run)));
  axes.forEach((axis) => { axis.scale ??= scaleOf(axis); });
  const parts = [];
  const ordered = found.toSorted((one, other) => better(other, one));
  const rank = new Map(ordered.map((run, at) => [run, ordered.length > 1 ? at / (ordered.length - 1) : 1]));
  for (const run of [...ordered.filter((each) => !state.chosen.includes(each)), ...state.chosen.filter((each) => rank.has(each))]) {
    const points = axes.map((axis, at) => [LEFT + at * GAP, y(axis, run)]).filter(([, height]) => height <= TOP + HEIGHT);
    const at = state.chosen.indexOf(run);
    const colour = at >= 0 ? COLOURS[at % COLOURS.length] : `color-mix(in srgb, rgb(var(--blue)) ${100 * rank.get(run)}%, rgb(var(--orange)))`;
    const path = svg("path", { d: `M${points.map((point) => point.join(",")).join("L")}`, style: `stroke: ${colour}; opacity: ${at >= 0 ? 1 : Math.max(0.15, Math.min(0.8, 40 / found.length))}`, class: at >= 0 ? "is-chosen" : "" });
    path.append(svg("title", {}, `${run.name}: ${FORMS[objective.form](objective.of(run))}`));
    parts.push(path);
  }
  axes.forEach((axis, at) => {
    const x = LEFT + at * GAP;
    parts.push(svg("line", { class: "axis", x1: x, x2: x, y1: TOP, y2: TOP + HEIGHT }));
    parts.push(svg("text", { x, y: 16, "text-anchor": "middle" }, short(axis.label ?? axis.name, 18)));
    for (const tick of axis.scale.ticks) {
      parts.push(svg("text", { class: "tick", x: x + 6, y: TOP + HEIGHT * (1 - tick.at) + 4 }, tick.text));
    }
    const brush = state.brushes.get(axis);
    if (brush) parts.push(svg("rect", { class: "brush", x: x - 7, width: 14, y: TOP + HEIGHT * (1 - brush[1]), height: HEIGHT * (brush[1] - brush[0]) }));
    const grab = svg("rect", { class: "grab", x: x - 22, width: 44, y: TOP - 8, height: HEIGHT + 16 });
    grab.addEventListener("pointerdown", (event) => drag(axis, grab, event));
    parts.push(grab);
  });
  picture.replaceChildren(...parts);
}

function drag(axis, grab, start) {
  const place = ({ clientY }) => {
    const box = grab.getBoundingClientRect();
    return 1 - Math.min(1, Math.max(0, (clientY - box.top - 8) / (box.height - 16)));
  };
  const from = place(start);
  const end = (event) => {
    const to = place(event);
    if (Math.abs(to - from) < 0.02) state.brushes.delete(axis);
    else state.brushes.set(axis, [Math.min(from, to) - 1e-9, Math.max(from, to) + 1e-9]);
    show();
  };
  addEventListener("pointerup", end, { once: true });
}

// Controls

for (const column of columns) {
  const box = make("input", { type: "checkbox", checked: column.shown });
  box.addEventListener("change", () => { column.shown = box.checked; show(); });
  $("#columns").append(make("label", { className: "check" }, box, column.name));
}
$("#filter").addEventListener("input", () => { state.rows = FIRST; show(); });
$("#seeds").addEventListener("change", () => {
  state.seeds = $("#seeds").checked;
  if (seed) seed.shown ||= false;
  show();
});
$("#controls").addEventListener("submit", (event) => event.preventDefault());
$("#more").addEventListener("click", () => { state.rows = Infinity; show(); });
$("#clear").addEventListener("click", () => { state.chosen = []; show(); showChosen(); });
$("#copy").addEventListener("click", () => {
  getSelection().selectAllChildren($("#command"));
  document.execCommand("copy");
  $("#copy").textContent = "Copied";
  setTimeout(() => { $("#copy").textContent = "Copy"; }, 2000);
});
show();
drawCurves();

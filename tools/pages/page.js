const form = document.querySelector("#filter");
const groups = [...document.querySelectorAll(".group")].map((card) => ({
  card,
  title: card.querySelector("h3").firstChild.textContent.replace(/: $/, ""),
  count: card.querySelector(".count"),
  total: card.querySelector(".count").textContent,
  list: card.querySelector(".digits"),
  digits: [...card.querySelectorAll("li")],
  more: card.querySelector(".more"),
}));
const cells = [...document.querySelectorAll(".matrix button")];

const chosen = () => Object.fromEntries(new FormData(form));
const isChosen = ({ actual, predicted }) => Boolean(actual || predicted);

function matches({ actual, before, after }, wanted) {
  const taken = { before: [before], after: [after] }[wanted.by] ?? [before, after];
  return (!wanted.actual || actual === wanted.actual)
    && (!wanted.predicted || taken.includes(wanted.predicted))
    && (wanted.by !== "moved" || before !== after);
}

function show() {
  const wanted = chosen();
  const all = !isChosen(wanted) && wanted.by !== "moved";
  const left = groups.map(({ card, count, total, list, digits, more }) => {
    for (const digit of digits) digit.hidden = !matches(digit.dataset, wanted);
    const matching = digits.filter((digit) => !digit.hidden).length;
    count.textContent = all ? total : `${matching.toLocaleString("en")} of ${total}`;
    card.hidden = matching === 0;
    list.classList.toggle("few", all && more !== null && !more.hidden);
    if (more) more.style.display = all ? "" : "none";
    return matching;
  });
  document.querySelector("#status").textContent = all ? ""
    : groups.map(({ title, total }, place) => `${title}: ${left[place].toLocaleString("en")} of ${total}`).join(". ");
  for (const cell of cells) {
    const { actual, predicted } = cell.dataset;
    const pressed = actual === wanted.actual && predicted === wanted.predicted && cell.closest("table").dataset.by === wanted.by;
    cell.setAttribute("aria-pressed", pressed);
  }
  document.querySelector("#choose").open ||= !all;
}

// The address holds what is chosen, so that it can be sent to others.
function remember() {
  const wanted = chosen();
  const all = !isChosen(wanted) && wanted.by !== "moved";
  history.replaceState(null, "", all ? "#digits" : `#${new URLSearchParams(wanted)}`);
}

function recall() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (!wanted.has("by")) return;
  for (const [field, value] of wanted) if (form.elements[field]) form.elements[field].value = value;
  show();
  document.querySelector("#digits").scrollIntoView();
}

form.addEventListener("change", () => { show(); remember(); });
form.addEventListener("reset", () => setTimeout(() => { show(); remember(); }));
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", recall);
for (const { list, more } of groups) {
  more?.addEventListener("click", () => { list.classList.remove("few"); more.hidden = true; });
}

for (const matrix of document.querySelectorAll(".matrix")) {
  const buttons = [...matrix.querySelectorAll("button")];
  if (buttons.length) buttons[0].tabIndex = 0;
  matrix.addEventListener("click", ({ target }) => {
    const cell = target.closest("button");
    if (!cell) return;
    form.elements.actual.value = cell.dataset.actual;
    form.elements.predicted.value = cell.dataset.predicted;
    form.elements.by.value = matrix.dataset.by;
    show();
    remember();
    document.querySelector("#digits").scrollIntoView();
  });
  // The arrow keys go from cell to cell, past those without digits.
  matrix.addEventListener("keydown", (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const place = ({ dataset }) => [Number(dataset.actual), Number(dataset.predicted)];
    const [row, column] = place(event.target);
    const next = buttons.filter((button) => {
      const [otherRow, otherColumn] = place(button);
      return down ? otherColumn === column && (otherRow - row) * down > 0 : otherRow === row && (otherColumn - column) * right > 0;
    }).sort((one, other) => {
      const far = (button) => place(button).reduce((sum, at, axis) => sum + Math.abs(at - [row, column][axis]), 0);
      return far(one) - far(other);
    })[0];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
show();
recall();

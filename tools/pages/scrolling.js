// A box that is narrower than its table says that it scrolls, and the keyboard reaches it.
const scrolling = new ResizeObserver((entries) => entries.forEach(({ target }) => {
  const wide = target.scrollWidth > target.clientWidth + 1;
  if (wide === target.classList.contains("wide")) return;
  target.classList.toggle("wide", wide);
  target.previousElementSibling?.matches(".hint") && target.previousElementSibling.remove();
  target.removeAttribute("tabindex");
  if (!wide) return;
  const hint = document.createElement("p");
  hint.className = "hint";
  hint.textContent = "Scroll sideways for the rest →";
  target.before(hint);
  target.tabIndex = 0;
}));
document.querySelectorAll(".scroll").forEach((box) => scrolling.observe(box));

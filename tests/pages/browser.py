"""Pages, opened in a real browser."""

from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, Request

LOCAL = ("file:", "data:", "blob:")


class Pages:
    """Opens pages in Chromium without a network, and records every fault in them."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.faults: list[str] = []
        self.allowed: tuple[str, ...] = LOCAL

    def open(self, path: Path, width: int = 1366, color_scheme: Literal["light", "dark"] = "light") -> Page:
        return self.visit(path.absolute().as_uri(), width, color_scheme, offline=True)

    def visit(
        self, url: str, width: int = 1366, color_scheme: Literal["light", "dark"] = "light", *, offline: bool = False
    ) -> Page:
        """Open an address; a page of a server may send requests to that server alone."""
        self.allowed = (*LOCAL, url.rpartition("/")[0])
        page = self.browser.new_page(
            viewport={"width": width, "height": 900},
            offline=offline,
            color_scheme=color_scheme,
            reduced_motion="reduce",
        )
        page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self.note_request)
        page.goto(url)
        return page

    def note_request(self, request: Request) -> None:
        if not request.url.startswith(self.allowed):
            self.faults.append(f"request: {request.url}")


WIDTHS = (390, 768, 1280, 1366)
PAPER = 688  # CSS pixels of a sheet of A4 between its margins


def layout_faults(page: Page) -> list[str]:
    """Measure the page as it is laid out: what is cut off, lies over other text, or scrolls without a hint."""
    faults: list[str] = page.evaluate(LAYOUT)
    return faults


LAYOUT = r"""() => {
  const faults = [], boxes = [], width = document.documentElement.clientWidth;
  const whole = document.documentElement.scrollWidth;
  if (whole > width) faults.push(`the page is ${whole} wide`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { currentNode: node } = texts, element = node.parentElement, text = node.textContent.trim();
    if (!text || element.closest("script, style, title, option, plaintext") || !element.checkVisibility()) continue;
    const scroll = element.closest(".scroll"), clip = scroll?.getBoundingClientRect();
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      let [left, right] = [rect.left, rect.right];
      if (scroll) {
        const cut = right > clip.right + 1.5 || left < clip.left - 1.5;
        if (cut && getComputedStyle(scroll).overflowX === "visible") faults.push(`cut: ${text}`);
        if (cut && !scroll.previousElementSibling?.matches(".hint")) faults.push(`no hint for ${text}`);
        [left, right] = [Math.max(left, clip.left), Math.min(right, clip.right)];
      } else if (left < -0.5 || right > width + 0.5) faults.push(`outside: ${text}`);
      if (right - left > 1 && rect.height > 1) boxes.push({ left, right, top: rect.top, bottom: rect.bottom, text });
    }
  }
  boxes.sort((one, other) => one.top - other.top);
  boxes.forEach((one, place) => {
    for (const other of boxes.slice(place + 1)) {
      if (other.top > one.bottom) break;
      const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      // Lines of one paragraph may touch.
      if (across > 2 && down > 4.5) faults.push(`“${one.text}” lies over “${other.text}”`);
    }
  });
  for (const part of document.querySelectorAll("svg.marks, img")) {
    if (!part.checkVisibility()) continue;
    const inner = part.getBoundingClientRect();
    const outer = part.parentElement.closest(".card, figure, li, main > div").getBoundingClientRect();
    if (inner.width < 20 || inner.height < 20) faults.push("a picture is not visible");
    if (inner.right > outer.right + 1 || inner.left < outer.left - 1) faults.push("a picture is wider than its box");
  }
  return [...new Set(faults)];
}"""


def small_targets(page: Page) -> list[str]:
    """List what is to be pressed and is smaller than 44 by 44 pixels, but for links within a sentence."""
    found: list[str] = page.evaluate(TARGETS)
    return found


# A box to tick is pressed through its label.
TARGETS = """() => [...document.querySelectorAll("nav a, .tiles a, button, select, summary, input, label.check")]
  .filter((target) => target.checkVisibility() && !target.matches("label.check input"))
  .filter((target) => Math.min(target.getBoundingClientRect().width, target.getBoundingClientRect().height) < 43.5)
  .map((target) => target.outerHTML.slice(0, 120))"""

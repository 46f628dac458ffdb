"""Pages, opened in a real browser."""

from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, Request


class Pages:
    """Opens pages in Chromium without a network, and records every fault in them."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.faults: list[str] = []

    def open(self, path: Path, width: int = 1366, color_scheme: Literal["light", "dark"] = "light") -> Page:
        page = self.browser.new_page(
            viewport={"width": width, "height": 900}, offline=True, color_scheme=color_scheme, reduced_motion="reduce"
        )
        page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self.note_request)
        page.goto(path.absolute().as_uri())
        return page

    def note_request(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.faults.append(f"request: {request.url}")

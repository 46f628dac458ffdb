from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.pages.browser import Pages
from tools.pages.screenshots import find_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for the tests of a module. Playwright runs an event loop, so no other can run in the meantime."""
    chromium = find_chromium()
    if not chromium:
        pytest.skip("Chromium not found; install Chromium (Debian: `apt-get install chromium`) or Chrome")
    with sync_playwright() as playwright:
        # A request that still leaves the browser meets a closed port.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--proxy-server=127.0.0.1:9"])
        yield browser
        browser.close()


@pytest.fixture
def pages(browser: Browser) -> Iterator[Pages]:
    """Pages that must have no faults."""
    pages = Pages(browser)
    yield pages
    assert pages.faults == []

"""Take the pictures of pages in docs/: `dvc plots show` and `make report` of the committed run, and a sweep's."""

import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

from stages.errors import InputError, one_line_errors
from stages.files import replacing
from tools import make_parser
from tools.pages.report import REPORT

PICTURES = Path("docs")
PLOTS = Path("dvc_plots/index.html")
SWEEP = PICTURES / "sweeps/fast-rate.html"
SIZE = ViewportSize(width=1280, height=1240)


def main() -> None:
    make_parser(__doc__).parse_args()
    subprocess.run(["dvc", "plots", "show"], check=True)
    subprocess.run(["python", "-m", "tools.pages.report", "HEAD"], check=True)
    take(
        (PLOTS, "header", PICTURES / "plots.png"),
        (REPORT, "header", PICTURES / "report.png"),
        (SWEEP, "[aria-label='All trials']", PICTURES / "sweep.png"),
    )


def take(*pictures: tuple[Path, str, Path]) -> None:
    """Take a picture of each page, from the element that the selector finds downwards."""
    chromium = find_chromium()
    if not chromium:
        raise InputError("Chromium not found; install Chromium (Debian: `apt-get install chromium`) or Chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for page, selector, picture in pictures:
            tab = browser.new_page(viewport=SIZE, offline=True, color_scheme="light")
            tab.goto(page.absolute().as_uri())
            tab.wait_for_selector("svg.marks")
            tab.locator(selector).evaluate("element => element.scrollIntoView({behavior: 'instant'})")
            with replacing(picture) as temporary:
                tab.screenshot(path=temporary)
            print(picture)
        browser.close()


def find_chromium() -> str | None:
    """Find the system's browser, because Playwright looks only for its own."""
    macos = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", macos))), None)


if __name__ == "__main__":
    with one_line_errors():
        main()

"""Take the pictures of the pages in docs/: of the committed run, and of made-up experiments: `make screenshots`."""

import dataclasses
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

from stages.errors import InputError, one_line_errors
from stages.files import replacing
from tools.pages import experiments
from tools.pages.report import REPORT
from tools.runs.experiments import Entry, load_all

PICTURES = Path("docs")
PLOTS = Path("dvc_plots/index.html")
SIZE = ViewportSize(width=1280, height=1240)


def main() -> None:
    subprocess.run(["dvc", "plots", "show"], check=True)
    subprocess.run(["python", "-m", "tools.pages.report", "HEAD"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        made_up_page = Path(folder) / "experiments.html"
        head = next(entry for entry in load_all()[0] if entry.name == "HEAD")
        made_up_page.write_text(experiments.page([head, *made_up(head)], []), encoding="utf-8")
        take(
            (PLOTS, "header", PICTURES / "plots.png"),
            (REPORT, "header", PICTURES / "report.png"),
            (made_up_page, "header", PICTURES / "experiments.png"),
        )


def made_up(head: Entry) -> Iterator[Entry]:
    """Make experiments of a run, with accuracies of a formula."""
    choices = itertools.product(("adam", "muon", "sgd"), (3, 10, 20), (0.001, 0.003), range(3))
    for number, (optimizer, epochs, rate, seed) in enumerate(choices):
        errors = (
            60 + 25 * (optimizer == "adam") + 90 * (optimizer == "sgd") + 90 // epochs + int(2000 * rate) + 5 * seed
        )
        test = head.report.test.model_copy(update={"errors": errors, "accuracy": 1 - errors / 10_000})
        changes = {"optimizer": optimizer, "epochs": epochs, "learning_rate": rate, "seed": seed}
        yield dataclasses.replace(
            head,
            name=f"{optimizer}-{epochs}-{rate}-{seed}",
            about=dataclasses.replace(head.about, kind="experiment", date=head.about.date + timedelta(hours=number)),
            params={**head.params, **{f"train.{name}": value for name, value in changes.items()}},
            report=head.report.model_copy(update={"test": test}),
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

"""Write a page about one run, or about two compared runs: `make report`, `make compare REV=before [REV2=after]`.

A revision is a commit, branch, tag, experiment or registered version. The page shows what git and DVC have at the
revisions; nothing is trained again. The page is one file with all its charts and images. `--markdown` prints a summary.
"""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages import figures
from stages.dataset import SIDE
from stages.errors import InputError, one_line_errors
from stages.files import replacing
from tools import make_parser
from tools.pages import plots_page
from tools.pages.charts import charts
from tools.pages.digits import ACROSS, Images, groups, load_images
from tools.pages.subject import Subject, changes, compare_runs, headlines, per_class
from tools.runs.paired import share
from tools.runs.revision import resolve
from tools.runs.run import load

REPORT, COMPARISON = Path("reports/report.html"), Path("reports/compare.html")

PICTURES = {
    "Confusion matrix": figures.CONFUSION_MATRIX,
    "Learning curves": figures.LEARNING_CURVES,
    "Mistakes": figures.MISTAKES,
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("before", nargs="?", help="revision to compare with; without it, the page shows HEAD only")
    parser.add_argument("after", nargs="?", default="HEAD", help="the revision after the change (default: HEAD)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown for a pull request, and write no page")
    parser.add_argument("--pictures", metavar="URL", help="address of committed files, up to the commit, for links")
    arguments = parser.parse_args()
    if arguments.pictures and not arguments.markdown:
        raise InputError("--pictures is for --markdown only: the page has no links")
    after = load(resolve(arguments.after))
    subject = compare_runs(load(resolve(arguments.before)), after) if arguments.before else Subject(after)
    if arguments.markdown:
        print(markdown(subject, arguments.pictures))
        return
    images, missing = (None, "") if subject.incomparable else load_images(after)
    path = COMPARISON if subject.before else REPORT
    with replacing(path) as temporary:
        temporary.write_text(page(subject, images, missing), encoding="utf-8")
    if subject.before:
        print(subject.sentence)
    for line in unavailable(subject, missing):
        print(line)
    for line in not_run(subject):
        print(line)
    print(f"{path.absolute().as_uri()} ({path.stat().st_size / 1e6:.1f} MB)")


def unavailable(subject: Subject, images: str) -> list[str]:
    """List what is missing on the page, with the commands that get it."""
    return list(filter(None, [*(run.missing for run in subject.runs), images]))


def not_run(subject: Subject) -> list[str]:
    """List the committed files that differ from those that the stages ran with."""
    return [line for run in subject.runs for line in run.not_run]


def page(subject: Subject, images: Images | None, missing: str) -> str:
    """Return the whole page. Texts from files are escaped."""
    return (
        templates(escape_html=True)
        .get_template("compare.html.j2")
        .render(
            context(subject),
            drawing=Markup(plots_page.drawing(plots_page.PAGE.read_text(encoding="utf-8"))),  # noqa: S704 - our own
            charts=charts(subject),
            groups=groups(subject, images),
            missing=unavailable(subject, missing),
            counts=[run.counts for run in subject.runs],
            across=ACROSS,
            side=SIDE,
        )
    )


def markdown(subject: Subject, pictures: str | None) -> str:
    """Return the summary. `pictures` is the address of the repository's files, up to the commit."""
    return (
        templates(escape_html=False)
        .get_template("compare.md.j2")
        .render(
            context(subject),
            pictures=pictures and pictures.rstrip("/"),
            files=changed_pictures(subject),
            missing=unavailable(subject, images=""),
        )
    )


def changed_pictures(subject: Subject) -> dict[str, Path]:
    """Return the pictures that differ between two runs, by title, or all pictures of one run."""
    if not subject.before:
        return PICTURES
    hashes = [run.lock.hashes for run in subject.runs]
    return {title: path for title, path in PICTURES.items() if len({of.get(path.as_posix()) for of in hashes}) > 1}


def context(subject: Subject) -> dict[str, Any]:
    """Collect the values that both templates use."""
    before, after = subject.before, subject.after
    return {
        "before": before,
        "after": after,
        "runs": subject.runs,
        "paired": subject.paired,
        "verdict": subject.verdict,
        "sentence": subject.sentence,
        "not_run": not_run(subject),
        "headlines": headlines(subject),
        "interval": share(
            (after.predictions["actual"] == after.predictions["predicted"]).sum(), len(after.predictions)
        )[1],
        "changes": changes(before, after) if before else {},
        "per_class": per_class(subject),
    }


def templates(*, escape_html: bool) -> Environment:
    """Make the environment of the templates. It escapes all markup in texts from files, for HTML or for Markdown."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=escape_html,  # noqa: S701 - `plain` escapes for Markdown
        finalize=None if escape_html else plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def plain(value: object) -> str:
    """Escape a value for Markdown and HTML: write every character that may be markup as an entity."""
    return re.sub(r"[^A-Za-z0-9 .,:;%/+=()▲▼◆◇-]", lambda found: f"&#{ord(found[0])};", " ".join(str(value).split()))


if __name__ == "__main__":
    with one_line_errors():
        main()

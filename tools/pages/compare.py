"""A page about a run, or about what a change made of it: `make report`, `make compare REV=before [REV2=after]`.

Everything on it is in git and DVC at the revisions: commits, branches, tags, experiments or registered versions.
Nothing is trained again. The page is one file, its charts and images inside; `--markdown` prints the same in short.
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
from tools.pages.charts import charts, confusion_of
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
    parser.add_argument("before", nargs="?", help="revision to compare with; without it, the page is about HEAD alone")
    parser.add_argument("after", nargs="?", default="HEAD", help="the revision after the change (default: HEAD)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown for a pull request, and write no page")
    parser.add_argument("--pictures", metavar="URL", help="of the committed files, up to the commit, for Markdown")
    arguments = parser.parse_args()
    if arguments.pictures and not arguments.markdown:
        raise InputError("--pictures is for --markdown alone: the page has no links")
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
    """List what is not on the page, and the commands that get it."""
    return list(filter(None, [*(run.missing for run in subject.runs), images]))


def not_run(subject: Subject) -> list[str]:
    """List what the commits say that was not run."""
    return [line for run in subject.runs for line in run.not_run]


def page(subject: Subject, images: Images | None, missing: str) -> str:
    """Return the whole page; everything that comes from files is escaped."""
    return (
        templates(escape_html=True)
        .get_template("compare.html.j2")
        .render(
            context(subject),
            drawing=Markup(plots_page.drawing(plots_page.PAGE.read_text(encoding="utf-8"))),  # noqa: S704 - our own
            charts=charts(subject),
            groups=groups(subject, images),
            missing=unavailable(subject, missing),
            counts=[confusion_of(run) for run in subject.runs],
            across=ACROSS,
            side=SIDE,
        )
    )


def markdown(subject: Subject, pictures: str | None) -> str:
    """Return the short form; `pictures` is where the repository's files are, up to the commit."""
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
    """Choose the pictures, by title, that are not the same in all runs."""
    if not subject.before:
        return PICTURES
    hashes = [run.lock.hashes for run in subject.runs]
    return {title: path for title, path in PICTURES.items() if len({of.get(path.as_posix()) for of in hashes}) > 1}


def context(subject: Subject) -> dict[str, Any]:
    """What both forms say."""
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
    """Make what fills the templates in; nothing from a file is taken for markup, neither of HTML nor of Markdown."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=escape_html,  # noqa: S701 - `plain` does it for Markdown
        finalize=None if escape_html else plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def plain(value: object) -> str:
    """Write a value so that Markdown and HTML take nothing in it for markup: other characters as entities."""
    return re.sub(r"[^A-Za-z0-9 .,:;%/+=()▲▼◆◇-]", lambda found: f"&#{ord(found[0])};", " ".join(str(value).split()))


if __name__ == "__main__":
    with one_line_errors():
        main()

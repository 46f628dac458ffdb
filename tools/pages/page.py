"""The page about one run or about two compared runs, and its summary in Markdown."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages import figures
from stages.files import replacing
from tools.pages import plots_page
from tools.pages.charts import charts
from tools.pages.digits import Images, groups, load_images
from tools.pages.matrices import matrices
from tools.pages.subject import Subject, changes, headlines, per_class, quoted, summary, unchanged
from tools.runs.about import describe
from tools.runs.paired import share, signed

PICTURES = {
    "Confusion matrix": figures.CONFUSION_MATRIX,
    "Learning curves": figures.LEARNING_CURVES,
    "Mistakes": figures.MISTAKES,
}
LONG = 28  # characters of a name; longer ones are shortened in the middle
PREVIEW = 24  # digits of a group that are visible at first


def write(subject: Subject, path: Path) -> None:
    """Write the page, and print the result, what is missing on the page, and the address of the page."""
    images, missing = (None, "") if subject.incomparable else load_images(subject.after)
    with replacing(path) as temporary:
        temporary.write_text(page(subject, images, missing), encoding="utf-8")
    print("\n".join(filter(None, [subject.sentence, subject.own_sentence])))
    for line in [*unavailable(subject, missing), *not_run(subject)]:
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
    shown = groups(subject, images)
    return (
        templates(escape_html=True)
        .get_template("page.html.j2")
        .render(
            context(subject),
            drawing=Markup(plots_page.drawing(plots_page.PAGE.read_text(encoding="utf-8"))),  # noqa: S704 - our own
            charts={} if subject.identical else charts(subject),
            groups=shown,
            matrices=matrices(subject, has_digits=bool(shown)),
            missing=unavailable(subject, missing),
            preview=PREVIEW,
        )
    )


def markdown(subject: Subject, pictures: str | None) -> str:
    """Return the summary. `pictures` is the address of the repository's files, up to the commit."""
    return (
        templates(escape_html=False)
        .get_template("page.md.j2")
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
    rows = headlines(subject)
    return {
        "before": before,
        "after": after,
        "runs": subject.runs,
        "paired": subject.paired,
        "same": subject.same,
        "identical": subject.identical,
        "verdict": subject.verdict,
        "sentence": subject.sentence,
        "own_sentence": subject.own_sentence,
        "title": subject.title,
        "abouts": [describe(run.revision) for run in subject.runs],
        "summary": summary(before, after) if before else "",
        "not_run": not_run(subject),
        "headlines": rows,
        "differs": any(re.search("[1-9]", row.difference) for row in rows),
        "interval": share(
            (after.predictions["actual"] == after.predictions["predicted"]).sum(), len(after.predictions)
        )[1],
        "changes": changes(before, after) if before else {},
        "unchanged": unchanged(before, after) if before else "",
        "per_class": per_class(subject),
    }


def templates(*folders: Path, escape_html: bool) -> Environment:
    """Make the environment of the templates here and in other folders.

    It escapes all markup in texts from files, for HTML or for Markdown.
    """
    made = Environment(
        loader=FileSystemLoader([Path(__file__).parent, *folders]),
        autoescape=escape_html,  # noqa: S701 - `plain` escapes for Markdown
        finalize=None if escape_html else plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"short": short, "signed": signed, "quoted": quoted}
    return made


def short(name: object) -> str:
    """Shorten a long name in its middle."""
    text = str(name)
    return text if len(text) <= LONG else f"{text[: LONG // 2]}…{text[1 - LONG // 2 :]}"


def plain(value: object) -> str:
    """Escape a value for Markdown and HTML: write every character that may be markup as an entity."""
    return re.sub(r"[^A-Za-z0-9 .,:;%/+=()▲▼◆◇-]", lambda found: f"&#{ord(found[0])};", " ".join(str(value).split()))

"""Write a page about what changed from one run to another: `make compare REV=main`, or `make compare` alone.

A revision is a commit, branch, tag, experiment, registered version, or `workspace`: the files here, committed or not.
With one revision, the other is the current run. Without any, the workspace is compared with HEAD. The older run
comes first. The page shows what git and DVC have at the revisions; nothing is trained again. The page is one file with
all its charts and images. `--markdown` prints a summary.
"""

import re
import shutil
from pathlib import Path

from stages.errors import InputError, one_line_errors
from stages.files import replacing
from tools import make_parser
from tools.pages.page import markdown, write
from tools.pages.subject import compare_runs
from tools.runs.about import in_order
from tools.runs.revision import Revision
from tools.runs.run import current, find, load

COMPARISON = Path("reports/compare.html")
OF_COMMITS = re.compile(r"compare-[0-9a-f]{10}-[0-9a-f]{10}\.html")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "revisions",
        nargs="*",
        metavar="revision",
        help="one or two; one alone is compared with the current run (default: HEAD)",
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown for a pull request, and write no page")
    parser.add_argument("--pictures", metavar="URL", help="address of committed files, up to the commit, for links")
    arguments = parser.parse_args()
    if arguments.pictures and not arguments.markdown:
        raise InputError("--pictures is for --markdown only: the page has no links")
    subject = compare_runs(*map(load, in_order(*pair(arguments.revisions))))
    if arguments.markdown:
        print(markdown(subject, arguments.pictures))
    else:
        write(subject, COMPARISON)
        keep([run.revision for run in subject.runs])


def keep(pair: list[Revision]) -> None:
    """Copy the page of two commits to a name of its own, which the page of all experiments links."""
    if all(each.commit for each in pair):
        name = f"compare-{'-'.join(each.commit[:10] for each in pair)}.html"
        with replacing(COMPARISON.with_name(name)) as temporary:
            shutil.copyfile(COMPARISON, temporary)


def kept() -> list[str]:
    """Return the names of the pages of two commits."""
    return sorted(path.name for path in COMPARISON.parent.glob("*.html") if OF_COMMITS.fullmatch(path.name))


def pair(names: list[str]) -> tuple[Revision, Revision]:
    """Find the two revisions to compare.

    Raises `InputError` if they are one.
    """
    if len(names) > 2:
        raise InputError(f"expected one or two revisions, found {len(names)}: {' '.join(names)}")
    one = find(names[0] if names else "HEAD")
    other = find(names[1]) if len(names) > 1 else current() if one.commit else find("HEAD")
    if one.commit == other.commit:
        raise InputError(
            f"{one} and {other} are the same commit: nothing to compare; name another: `make compare REV=main`"
            if len(names) > 1
            else f"{one} is the commit of the current run: nothing to compare; name another: `make compare REV=main`"
        )
    return one, other


if __name__ == "__main__":
    with one_line_errors():
        main()

"""Write a page about one run: `make report`, or `make report REV=main` for another than the current run.

A revision is a commit, branch, tag, experiment, registered version, or `workspace`: the files here, committed or not.
Without one, the page is about the workspace if its run is not committed, or else about HEAD.
"""

from pathlib import Path

from stages.errors import one_line_errors
from tools import make_parser
from tools.pages.page import write
from tools.pages.subject import Subject
from tools.runs.run import current, find, load

REPORT = Path("reports/report.html")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("revision", nargs="?", help="the run to show (default: the current run)")
    name = parser.parse_args().revision
    write(Subject(load(find(name) if name else current())), REPORT)


if __name__ == "__main__":
    with one_line_errors():
        main()

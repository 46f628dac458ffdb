"""What a pull request changes, in Markdown: metrics, parameters and pictures of its base and of it.

`python -m tools.pull_request BASE HEAD --files URL` prints it; URL has {commit} and {path}, and leads to a file.
"""

import argparse
import subprocess
from collections.abc import Sequence
from urllib.parse import quote

from dvc.repo import Repo

from stages.errors import InputError, one_line_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="commit that the pull request is compared with")
    parser.add_argument("head", help="commit of the pull request")
    parser.add_argument("--files", metavar="URL", required=True, help="where a picture is, by {commit} and {path}")
    arguments = parser.parse_args()
    if not all(placeholder in arguments.files for placeholder in ("{commit}", "{path}")):
        raise InputError(f"--files: expected {{commit}} and {{path}}, found {arguments.files}")
    base, head = (run("git", "rev-parse", f"{rev}^{{commit}}") for rev in (arguments.base, arguments.head))
    print(
        report(
            metrics=difference("metrics", base, head),
            parameters=difference("params", base, head),
            pictures=changed_pictures(base, head),
            base=arguments.files.replace("{commit}", base),
            head=arguments.files.replace("{commit}", head),
        ),
        end="",
    )


def difference(kind: str, base: str, head: str) -> str:
    """Give DVC's table of what changed, empty if nothing did."""
    table = run("dvc", kind, "diff", "--md", *(run("git", "rev-parse", "--short", commit) for commit in (base, head)))
    heading, line, *rows = table.splitlines() or ["", ""]
    return "\n".join([heading, line, *rows]) if rows else ""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout.strip()


def changed_pictures(base: str, head: str) -> list[str]:
    """List the pictures that the pipeline draws and that differ between two commits."""
    with Repo() as repo:
        drawn = {repo.fs.relpath(out.fs_path, repo.root_dir) for out in repo.index.outs if out.is_plot}
    changed = run("git", "diff", "--name-only", base, head, "--", "reports").splitlines()
    return [path for path in changed if path in drawn and path.endswith(".png")]


def report(*, metrics: str, parameters: str, pictures: Sequence[str], base: str, head: str) -> str:
    """Lay everything out; `base` and `head` are addresses with {path}."""
    parts = ["## What it changes in the results"]
    parts += ["### Metrics", metrics or "None changed."]
    parts += ["### Parameters", parameters or "None changed."]
    parts += ["### Pictures"]
    if pictures:
        rows = ["| | base | this pull request |", "|---|---|---|"]
        for path in pictures:
            images = (f"![{path}]({address.replace('{path}', quote(path))})" for address in (base, head))
            rows.append(f"| {path} | {' | '.join(images)} |")
        parts.append("\n".join(rows))
    else:
        parts.append("None changed.")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    with one_line_errors():
        main()

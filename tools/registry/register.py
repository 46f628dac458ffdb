"""Give the model of this commit the next version: `make register`, or with BUMP=minor or BUMP=major.

The version is a git tag with the model card as its message; no commit is made.
"""

from contextlib import closing

from scmrepo.git import Git

from stages.errors import InputError, one_line_errors
from tools import ROOT, make_parser
from tools.registry import agreement, remote, tags
from tools.registry.card import card
from tools.runs import versions
from tools.runs.revision import git_errors, resolve
from tools.storage import check


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--bump", choices=tags.PARTS, default="patch", help="which part grows (default: patch)")
    parser.add_argument("--offline", action="store_true", help="do not ask the remote for the tags of others")
    arguments = parser.parse_args()
    with git_errors(ROOT), closing(Git(str(ROOT))) as scm:
        origin = remote.check(scm, offline=arguments.offline)
        refuse(faults(scm))
        of, known = resolve("HEAD"), versions.registered(scm)
        agreement.check(of)
        parent = resolve(known[-1].tag) if known else None
        name = tags.next_version(scm, arguments.bump)
        version = versions.Version(name, of.commit)
        tags.register(scm, version, card(name, of, parent))
    print(f"{version.tag} is registered; `make card VERSION={name}` shows its card")
    print(remote.how_to_share(origin, version.tag))


def faults(scm: Git) -> list[str]:
    """List what stands against registering this commit."""
    known = [version.name for version in versions.registered(scm) if version.commit == scm.get_rev()]
    if known:
        return [f"this commit is {known[0]} already; commit another run, or use that one"]
    staged, unstaged, _ = scm.status(untracked_files="no")
    changed = sorted({*(path for paths in staged.values() for path in paths), *unstaged})
    if changed:
        return [f"{', '.join(changed)}: not committed; commit or restore first"]
    return check.problems()


def refuse(found: list[str]) -> None:
    """Raise `InputError` if anything was found."""
    if found:
        raise InputError(f"not registered: {'; '.join(found)}")


if __name__ == "__main__":
    with one_line_errors():
        main()

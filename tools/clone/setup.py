"""Install this repository's pre-push hook and merge drivers: `make setup`, once in each clone. Twice changes nothing.

Git runs copies outside of the work tree, since checkout, fetch and merge of a branch must not run the branch's code.
A push runs `tools.storage.check` of the branch that is checked out.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from stages.errors import InputError, one_line_errors
from stages.files import replacing
from tools import make_parser

FOLDER = "mnist-lstm"  # in the git directory that all work trees of a clone share
CALL = f'"$(git rev-parse --git-common-dir)/{FOLDER}/pre-push" "$@"'

# Of an earlier `make setup`: git ran whatever a branch had in these folders.
TRACKED_HOOKS = ("tools/hooks", "tools/clone/hooks")

PRE_PUSH = """\
#!/bin/sh
# Git gives the commits to be pushed on the input. `git push --no-verify` goes without.
cd ./{prefix} 2>/dev/null && test -f tools/storage/check.py || {{
    echo "note: this commit has no tools/storage/check.py, so nothing checks that its data is in the storage" >&2
    exit 0
}}
PATH="$PWD/.venv/bin":{programs}:"$PATH" exec python -m tools.storage.check --push
"""

MERGE_OWN = """\
#!/bin/sh
# Git gives the base, both sides and the name.
{guard}top=$PWD
cd ./{prefix} && exec {python} -I "$(git rev-parse --git-common-dir)/{folder}/merge_own.py" \\
    "$top/$1" "$top/$2" "$top/$3" "$4"
"""

# DVC is in the environment, which a branch could replace where it lies in the work tree.
GUARD = """\
test -z "$(git ls-files -- {environment})" || {{
    echo "$4: not merged, since git has files in {environment}, whose programs would run" >&2
    exit 1
}}
"""


def main() -> None:
    make_parser(__doc__).parse_args()
    changed = [*move_from_tracked_hooks(), *install_files(), *configure_drivers(), *install_hook()]
    print("\n".join(changed or ["nothing to do"]))


def move_from_tracked_hooks() -> Iterator[str]:
    if setting("core.hooksPath") in TRACKED_HOOKS:
        git("config", "--local", "--unset-all", "core.hooksPath")
        yield "git no longer runs hooks of the branch that is checked out"


def install_files() -> Iterator[str]:
    """Write the hook and the drivers to the git directory."""
    prefix = git("rev-parse", "--show-prefix")  # of a project in a folder of a larger repository
    hook = PRE_PUSH.format(prefix=shlex.quote(prefix), programs=shlex.quote(str(Path(sys.executable).parent)))
    for name, content in (
        ("pre-push", hook),
        ("merge_lock.py", source_of("merge_lock.py")),
        ("merge_own.py", source_of("merge_own.py")),
        ("merge_own", merge_own_program(prefix)),
    ):
        if write_program(common_folder() / FOLDER / name, content):
            yield f"{common_folder() / FOLDER / name} is written"


def source_of(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def merge_own_program(prefix: str) -> str:
    """Write the shell program that runs the driver with the environment's DVC."""
    environment, top = Path(sys.prefix), Path(git("rev-parse", "--show-toplevel"))
    inside = environment.relative_to(top) if environment.is_relative_to(top) else None
    return MERGE_OWN.format(
        guard=GUARD.format(environment=shlex.quote(str(inside))) if inside else "",
        prefix=shlex.quote(prefix),
        python=shlex.quote(sys.executable),
        folder=FOLDER,
    )


def configure_drivers() -> Iterator[str]:
    changed = {name: value for name, value in drivers().items() if setting(name) != value}
    for name, value in changed.items():
        git("config", "--local", "--replace-all", name, value)
    if changed:
        yield "git knows how to merge dvc.lock, reports and our own pictures"


def drivers() -> Mapping[str, str]:
    # The environment's own link to Python is in the work tree, where a branch could replace it.
    python = shlex.quote(str(Path(sys.executable).resolve())).replace("%", "%%")
    return {
        "merge.dvc-lock.name": "dvc.lock, stage by stage",
        "merge.dvc-lock.driver": f'{python} -I "$(git rev-parse --git-common-dir)/{FOLDER}/merge_lock.py" %O %A %B',
        "merge.own-pictures.name": "our own pictures: those of both sides",
        "merge.own-pictures.driver": f'"$(git rev-parse --git-common-dir)/{FOLDER}/merge_own" %O %A %B %P',
        "merge.ours-until-repro.name": "what the pipeline makes: ours, until `dvc repro` makes it of the merge",
        "merge.ours-until-repro.driver": "true",
    }


def install_hook() -> Iterator[str]:
    """Make git's pre-push hook call ours.

    Raises `InputError` if there is another one, or if git's settings name another folder of hooks: those stay.
    """
    folder = common_folder() / "hooks"
    top = git("rev-parse", "--show-toplevel")  # a relative core.hooksPath starts there
    used = Path(top, git("-C", top, "rev-parse", "--git-path", "hooks"))
    hook = used / "pre-push"
    if calls_ours(hook):
        return
    if used.resolve() != folder.resolve():
        scope, origin, path = git("config", "--show-scope", "--show-origin", "--get", "core.hooksPath").split("\t", 2)
        own = f"--{scope} --unset" if scope in ("local", "worktree") else "--local"
        value = "" if own.endswith("unset") else f" {shlex.quote(str(folder))}"
        raise InputError(
            f"core.hooksPath: git runs the hooks in {path} alone, as {origin} says; add the line `{CALL}` to "
            f"{hook}, or run `git config {own} core.hooksPath{value}` for this clone and `make setup` again"
        )
    if hook.is_file() and not os.access(hook, os.X_OK):
        raise InputError(
            f"{hook}: git ignores this hook, because it is not executable; run `chmod +x {shlex.quote(str(hook))}` or "
            "remove it, then `make setup` again"
        )
    if hook.exists() or hook.is_symlink():
        raise InputError(
            f"{hook}: your own hook, which stays; add the line `{CALL}` before commands that read the input"
        )
    write_program(hook, f"#!/bin/sh\nexec {CALL}\n")
    yield f"before a push git runs {hook}, and so tools/storage/check.py of the branch that you are on"


def calls_ours(hook: Path) -> bool:
    """Tell whether git runs a hook that has a line, other than a comment, with our program."""
    return os.access(hook, os.X_OK) and any(
        f"{FOLDER}/pre-push".encode() in line and not line.lstrip().startswith(b"#")
        for line in hook.read_bytes().splitlines()
    )


def write_program(path: Path, content: str) -> bool:
    """Write a program, unless the file has this content already."""
    if path.is_file() and path.read_bytes() == content.encode() and path.stat().st_mode & 0o111:
        return False
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode())
        temporary.chmod(0o755)
    return True


def common_folder() -> Path:
    return Path(git("rev-parse", "--git-common-dir")).resolve()


def setting(name: str) -> str | None:
    done = subprocess.run(["git", "config", "--local", "--get", name], capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.removesuffix("\n")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout.removesuffix("\n")


if __name__ == "__main__":
    with one_line_errors():
        main()

"""Make git know this repository's hooks and merge drivers: `make setup`, once in each clone. Twice changes nothing."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from stages.errors import InputError, one_line_errors

HOOKS = "tools/clone/hooks"
SETTINGS: Mapping[str, str] = {
    "core.hooksPath": HOOKS,
    "merge.dvc-lock.name": "dvc.lock, stage by stage",
    # In the repository's own environment, activated or not.
    "merge.dvc-lock.driver": 'PATH="$PWD/.venv/bin:$PATH" python -m tools.clone.merge_lock %O %A %B',
    "merge.ours-until-repro.name": "what the pipeline makes: ours, until `dvc repro` makes it of the merge",
    "merge.ours-until-repro.driver": "true",
}


def main() -> None:
    refuse_to_silence_other_hooks()
    changed = {name: value for name, value in SETTINGS.items() if setting(name) != value}
    for name, value in changed.items():
        git("config", "--local", name, value)
    print(f"git knows the hooks in {HOOKS} and how to merge dvc.lock and reports" if changed else "nothing to do")


def refuse_to_silence_other_hooks() -> None:
    """Git runs the hooks of one folder alone.

    Raises `InputError` if that is another than this repository's.
    """
    path = setting("core.hooksPath")
    if path not in (None, HOOKS):
        raise InputError(
            f"core.hooksPath: git runs the hooks in {path}; make those call the ones in {HOOKS}, "
            "or run `git config --unset core.hooksPath`"
        )
    if path is None:
        folder = Path(git("rev-parse", "--git-path", "hooks"))
        own = sorted(file.name for file in folder.glob("*") if file.suffix != ".sample")
        if own:
            raise InputError(
                f"{folder}: would no longer run {', '.join(own)}; move them away, or make them part of {HOOKS}"
            )


def setting(name: str) -> str | None:
    """Read what holds of a setting of git, wherever it is made."""
    done = subprocess.run(["git", "config", "--get", name], capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.strip()


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    with one_line_errors():
        main()

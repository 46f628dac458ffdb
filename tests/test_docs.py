"""README, CONTRIBUTING and docs/ name only files, commands and links that exist."""

import argparse
import fnmatch
import importlib.util
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from dvc.cli.parser import get_main_parser

from tools import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
CHANGELOG = "CHANGELOG.md"  # it also names commands of earlier versions

README_WORDS = 1_000  # outside code and tables: three screens
SENTENCE_WORDS = 32
TREE_LINES = 12
GROUPS = ["First steps", "Experiments", "Pages", "Team", "Checks", "Maintenance"]

MADE_BY_TASKS = {"reports/report.html", "reports/compare.html", "reports/experiments.html"}

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:[^`\n]|\n(?!\n))+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z-]*):.*?(?:## (.+))?$", re.MULTILINE)
PATH = re.compile(r"(?:stages|tools|tests|docs|reports|\.dvc|\.ci|\.github)/[\w./-]+\.(?:py|md|yml|json|html|j2)")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.rstrip("\0").split("\0")


def without_code(text: str) -> str:
    return SPAN.sub("", FENCE.sub("", text))


def prose(text: str) -> str:
    """Keep only sentences: no code blocks, tables, headings or quotations."""
    return "\n".join(line for line in FENCE.sub("", text).splitlines() if not line.startswith(("|", "#", ">")))


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.:;])\s", " ".join(prose(text).split()))


def spans(text: str) -> list[str]:
    return [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]


def code(text: str) -> list[str]:
    """List everything that is set as code: lines of blocks, with continued lines as one, and spans within the prose."""
    blocks = "\n".join(FENCE.findall(text)).replace("\\\n", " ")
    return [*blocks.splitlines(), *spans(text)]


def headings(text: str) -> set[str]:
    """Name a document's headings as links do on GitHub."""
    seen: Counter[str] = Counter()
    names = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return names


# Words


def test_the_readme_has_three_screens() -> None:
    assert len(prose(read("README.md")).split()) <= README_WORDS


@pytest.mark.parametrize("name", [*DOCUMENTS, CHANGELOG])
def test_sentences_are_short(name: str) -> None:
    assert [sentence for sentence in sentences(read(name)) if len(sentence.split()) > SENTENCE_WORDS] == []


def test_a_sentence_ends_with_a_full_stop_a_colon_or_a_semicolon() -> None:
    text = "# Head\n\nOne `a.b`: two\nwords; three.\n\n| cell. |\n\n```\ncode. code\n```\n\n> quoted\n\nFour.\n"
    assert sentences(text) == ["One `a.b`:", "two words;", "three.", "Four."]


# Files


def tree() -> list[str]:
    """List the lines of the README's list of files."""
    (block,) = FENCE.findall(read("README.md").partition("## Where things are\n")[2])
    return block.splitlines()[1:-1]


def tree_patterns() -> list[str]:
    return [pattern for line in tree() for pattern in re.split(r" {2,}", line)[0].split()]


def test_the_tree_is_short() -> None:
    assert len(tree()) <= TREE_LINES


@pytest.mark.parametrize("pattern", tree_patterns())
def test_every_entry_of_the_tree_is_in_git(pattern: str) -> None:
    assert fnmatch.filter(tracked(), f"{pattern}*" if pattern.endswith("/") else pattern)


def test_the_tree_has_every_file_and_folder_in_git() -> None:
    top = {name.partition("/")[0] + ("/" if "/" in name else "") for name in tracked()}
    assert sorted(top - {name for pattern in tree_patterns() for name in fnmatch.filter(top, pattern)}) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_named_file_exists(name: str) -> None:
    named = {span for span in spans(read(name)) if PATH.fullmatch(span) and "NAME" not in span}
    assert [path for path in sorted(named - MADE_BY_TASKS) if not (ROOT / path).exists()] == []


def test_development_names_every_module_of_the_stages_and_every_package_and_tool() -> None:
    development = read("docs/development.md")
    inside = {name.partition("/")[2] for name in tracked() if re.match(r"(stages|tools)/(?!__init__)", name)}
    modules = {name.partition("/")[0] + "/" * ("/" in name) for name in inside}
    assert [module for module in sorted(modules) if f"`{module}`" not in development] == []


# Commands


def targets() -> dict[str, str]:
    return dict(TARGET.findall(read("Makefile")))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_task_exists(name: str) -> None:
    named = {task for line in code(read(name)) for task in re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", line)}
    assert sorted(named - targets().keys()) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_module_exists(name: str) -> None:
    named = {module for line in code(read(name)) for module in re.findall(r"python -m ([\w.]+)", line)}
    assert [module for module in sorted(named) if "NAME" not in module and not module_exists(module)] == []


def module_exists(module: str) -> bool:
    if module.partition(".")[0] in {"stages", "tools"}:
        return (ROOT / f"{module.replace('.', '/')}.py").exists()
    return importlib.util.find_spec(module) is not None


def dvc_commands(text: str) -> Iterator[list[str]]:
    """Find each use of `dvc` in code, and give the words after it."""
    for line in code(text):
        for command in re.split(r"&&|\||;|`| # | \(", line.removeprefix("$ ")):
            if re.match(r"\s*(?:[A-Z_]+=\S* )*dvc\s", command):
                yield shlex.split(command.partition("dvc")[2])


def unknown_to_dvc(words: list[str]) -> str | None:
    """Name the first subcommand or option that DVC's own parser does not have."""
    parser: argparse.ArgumentParser = get_main_parser()
    for word in words:
        choices = next((each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)), None)
        if word.startswith("-"):
            if word.partition("=")[0] not in parser._option_string_actions:
                return word
        elif choices is not None:
            if word not in choices:
                return word
            parser = choices[word]
    return None


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_and_option_of_dvc_exists(name: str) -> None:
    commands = list(dvc_commands(read(name)))
    assert [(command, unknown) for command in commands if (unknown := unknown_to_dvc(command))] == []


def test_an_unknown_command_or_option_of_dvc_is_noticed() -> None:
    text = "Run `dvc exp shows`.\n\n```\n$ dvc plots show --nothing && dvc repro\n```\n\nAnd `dvc exp\nrun -S a=1`.\n"
    assert [unknown_to_dvc(command) for command in dvc_commands(text)] == ["--nothing", None, "shows", None]


def test_make_alone_lists_every_task_in_its_group() -> None:
    printed = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = printed.stdout.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == GROUPS
    assert {line.split(maxsplit=2)[1]: line.split(maxsplit=2)[2] for line in lines if line[:2] == "  "} == targets()


# Links


@pytest.mark.parametrize("name", [*DOCUMENTS, CHANGELOG])
def test_every_link_within_the_repository_leads_somewhere(name: str) -> None:
    text = read(name)
    for link in LINK.findall(without_code(text)):
        path, _, anchor = link.partition("#")
        if ":" in path:  # of the web
            continue
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.resolve().relative_to(ROOT).as_posix() in tracked(), link
        assert not anchor or anchor in headings(file.read_text(encoding="utf-8")), link


def test_headings_are_named_as_on_github() -> None:
    assert headings("# Try it: `make demo`, now\n\n## Limits\n\n## Limits\n\n```\n# no heading\n```\n") == {
        "try-it-make-demo-now",
        "limits",
        "limits-1",
    }

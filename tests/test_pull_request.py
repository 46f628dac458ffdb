import pytest

from tests.conftest import Clone, error_of
from tools.pull_request import report

FILES = "https://example.org/{commit}/{path}?raw=true"


def test_everything_is_laid_out_in_markdown() -> None:
    text = report(
        metrics="| M |", parameters="", pictures=["reports/a b.png"],
        base="https://example.org/1/{path}", head="https://example.org/2/{path}",
    )  # fmt: skip
    assert text == (
        "## What it changes in the results\n\n### Metrics\n\n| M |\n\n### Parameters\n\nNone changed.\n\n"
        "### Pictures\n\n| | base | this pull request |\n|---|---|---|\n"
        "| reports/a b.png | ![reports/a b.png](https://example.org/1/reports/a%20b.png) "
        "| ![reports/a b.png](https://example.org/2/reports/a%20b.png) |\n"
    )


def test_two_commits_are_compared_without_any_data(clone: Clone) -> None:
    text = (clone.folder / "params.yaml").read_text()
    (clone.folder / "params.yaml").write_text(text.replace("dropout: 0.2", "dropout: 0.3"))
    metrics = clone.folder / "reports/metrics.json"
    metrics.write_text(metrics.read_text().replace('"errors": ', '"errors": 1'))
    (clone.folder / "reports/mistakes.png").write_bytes(b"another picture")
    (clone.folder / "reports/benchmarks/other.png").write_bytes(b"not of the pipeline")
    clone.commit("Second")
    clone.run("rm", "-rf", "data", "models", ".dvc/cache")
    printed = clone.run("python", "-m", "tools.pull_request", "first", "HEAD", "--files", FILES)
    lines = printed.splitlines()
    assert any(line.startswith("| reports/metrics.json | test.errors ") for line in lines)
    assert any(line.split()[1:6:2] == ["params.yaml", "model.dropout", "0.2"] for line in lines)
    before, after = (
        FILES.format(commit=clone.run("git", "rev-parse", rev).strip(), path="reports/mistakes.png")
        for rev in ("first", "HEAD")
    )
    assert [line for line in lines if "![" in line] == [
        f"| reports/mistakes.png | ![reports/mistakes.png]({before}) | ![reports/mistakes.png]({after}) |"
    ]
    same = clone.run("python", "-m", "tools.pull_request", "HEAD", "HEAD", "--files", FILES)
    assert same.count("None changed.") == 3


def test_an_unknown_commit_is_named(clone: Clone) -> None:
    printed = clone.run("python", "-m", "tools.pull_request", "nothing", "HEAD", "--files", FILES, exit_code=1)
    assert "nothing" in error_of(printed)


@pytest.mark.parametrize("placeholder", ["{commit}", "{path}"])
def test_an_address_must_say_where_commit_and_path_go(placeholder: str, clone: Clone) -> None:
    files = FILES.replace(placeholder, "")
    printed = clone.run("python", "-m", "tools.pull_request", "HEAD", "HEAD", "--files", files, exit_code=1)
    assert f"expected {{commit}} and {{path}}, found {files}" in error_of(printed)

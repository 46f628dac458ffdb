"""The server follows its model, and changes over only to one that works."""

import threading
import time
from pathlib import Path

import pytest

from stages import archive
from stages.errors import InputError
from tests.clones import Clone
from tests.serve.running import Client, Process, in_thread, until
from tools import md5_of
from tools.serve import app, source
from tools.serve.serving import Serving


def replace(path: Path, content: bytes) -> None:
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


def test_another_model_in_the_workspace_is_taken(serving: Serving, workspace: Path, newer: bytes) -> None:
    before = serving.loaded
    serving.refresh()
    assert serving.loaded is before
    replace(workspace, newer)
    serving.refresh()
    assert serving.loaded.source.md5 == md5_of(newer)
    assert serving.fault is None


@pytest.mark.parametrize("damaged", [b"", b"no archive", None])
def test_a_model_that_does_not_work_is_not_taken_and_the_reason_is_told(
    serving: Serving, workspace: Path, newer: bytes, damaged: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    content = workspace.read_bytes()
    if damaged is None:
        workspace.unlink()
    else:
        replace(workspace, damaged)
    for _ in range(3):
        serving.refresh()
        assert serving.loaded.source.md5 == md5_of(content)
        assert serving.fault
        assert serving.fault.startswith("models/lstm.keras: ")
    assert capsys.readouterr().err.count("stays: models/lstm.keras: ") == 1
    replace(workspace, newer)
    serving.refresh()
    assert (serving.loaded.source.md5, serving.fault) == (md5_of(newer), None)


def test_without_a_model_one_line_says_how_to_get_one(workspace: Path) -> None:
    workspace.unlink()
    with pytest.raises(InputError) as refused:
        Serving(None)
    assert str(refused.value) == (
        "models/lstm.keras: not found; `make repro` trains it in some minutes, `dvc pull` fetches it from the "
        "storage; `make demo` trains a small one in a minute, for MODEL=demo"
    )


def test_no_request_is_dropped_while_the_model_changes(
    serving: Serving, workspace: Path, newer: bytes, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = workspace.read_bytes()
    monkeypatch.setattr(app, "REFRESH", 0.01)
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask(client: Client) -> None:
        while not stop.is_set():
            response = client.post("/predict", picture)
            answers.append((response.status_code, response.json()["md5"]))

    with in_thread(serving) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(6):
            md5 = md5_of((newer, content)[number % 2])
            replace(workspace, (newer, content)[number % 2])
            while client.get("/model").json()["md5"] != md5:
                time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        assert "model_changes_total 6.0" in client.get("/metrics").text
    assert set(answers) == {(200, md5_of(content)), (200, md5_of(newer))}


def test_a_stage_is_followed_from_version_to_version(releases: Clone, picture: bytes, tmp_path: Path) -> None:
    releases.environment["XDG_CACHE_HOME"] = str(tmp_path / "user")

    def assign(version: str) -> None:
        releases.run("gto", "assign", "lstm", "--version", version, "--stage", "prod")

    def recorded(version: str) -> str:
        lock = releases.run("git", "show", f"run-{version}:dvc.lock").split(f"path: {archive.PATH}\n", 1)[1]
        return lock.split("md5: ")[1].split()[0]

    assign("v1.0.0")
    server = Process(releases, "--model", "lstm@prod")
    try:
        model = server.get("/model").json()
        assert (model["name"], model["version"], model["md5"]) == ("lstm@prod", "v1.0.0", recorded("v1.0.0"))
        assert model["commit"] == releases.run("git", "rev-parse", "run-v1.0.0^{commit}").strip()
        assert model["card"].startswith("# lstm v1.0.0\n")
        assert server.post("/predict", picture).json()["model"] == "lstm@prod"

        assign("v1.0.1")
        until(lambda: server.get("/health").json()["version"] == "v1.0.1")
        assert server.post("/predict", picture).json()["md5"] == recorded("v1.0.1")

        # Neither in the cache nor in the storage.
        stores = (releases.folder / ".dvc/cache", releases.folder.parent / "mnist-lstm-storage")
        for store in stores:
            store.rename(store.with_name("gone"))
        assign("v1.1.0")
        health = until(lambda: (found := server.get("/health").json())["fault"] and found)
        assert health["status"] == "ok"
        assert health["version"] == "v1.0.1"
        assert health["fault"].startswith("models/lstm.keras at lstm@prod: neither in the cache nor in the storage")
        assert server.post("/predict", picture).json()["md5"] == recorded("v1.0.1")
        for store in stores:
            store.with_name("gone").rename(store)
        until(lambda: server.get("/health").json()["version"] == "v1.1.0")
        assert server.get("/health").json()["fault"] is None
    finally:
        server.end()


def test_a_revision_is_fetched_with_what_is_known_of_it(releases: Clone) -> None:
    found = source.fetch("lstm@v1.1.0", str(releases.folder))
    assert found.name == "lstm@v1.1.0"
    assert found.version == "v1.1.0"
    assert str(found) == f"lstm@v1.1.0 (v1.1.0) with the MD5 {found.md5}"
    assert md5_of(found.content) == found.md5
    assert found.card
    assert found.card.startswith("# lstm v1.1.0\n")
    releases.run("git", "commit", "--quiet", "--allow-empty", "--message", "Not registered")
    unregistered = source.fetch("main", str(releases.folder))
    assert (unregistered.version, unregistered.card) == (None, None)

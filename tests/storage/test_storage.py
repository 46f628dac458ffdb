import shutil
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from threading import Event

import pytest
import yaml
from dvc.repo import Repo

from stages.errors import InputError
from tests import loopback
from tests.clones import Clone, error_of
from tests.runs.test_lock import LAUGHS
from tests.team import s3
from tools import ROOT
from tools.storage import configure, repair, store


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository with the default storage and nothing else."""
    folder = tmp_path / "clone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Repo.init(no_scm=True)
    (folder / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    remote = storage\n"
        "['remote \"storage\"']\n    url = ../../mnist-lstm-storage\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return folder


def switch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["storage", *arguments])
    configure.main()


def config() -> str:
    return Path(".dvc/config").read_text()


@pytest.mark.parametrize("arguments", [["s3://bücket/mnist"], ["s3://mnist", "--endpoint=https://bücket.example"]])
def test_a_url_that_dvc_cannot_write_is_refused(
    arguments: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = config()
    with pytest.raises(InputError, match=r"bücket.*: DVC writes no letters outside ASCII to \.dvc/config; name a"):
        switch(monkeypatch, *arguments)
    assert config() == before
    assert not list(workspace.glob(".dvc/config.local"))


@pytest.mark.parametrize(("url", "written"), [("../shared", "../../shared"), ("{}/shared", "{}/shared")])
def test_a_folder_is_tried_out_and_written_for_every_clone(
    url: str, written: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    switch(monkeypatch, url.format(workspace.parent))
    assert f"url = {written.format(workspace.parent)}\n    verify = true\n" in config()
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{url.format(workspace.parent)} can be written and read; commit .dvc/config")
    assert f"the storage is the folder {workspace.parent}/shared: only" in printed.err
    assert [path for path in (workspace.parent / "shared").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "own",
    [
        "['remote \"storage\"']\n    url = /dev/null/earlier",
        "['remote \"storage\"']\n    url = s3://bucket/path\n    access_key_id = me",
        "[core]\n    remote = mine\n['remote \"mine\"']\n    url = /dev/null/mine",
    ],
)
def test_a_storage_of_this_clone_alone_gives_way(own: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".dvc/config.local").write_text(f"{own}\n")
    switch(monkeypatch, "../shared")
    with Repo() as repo:
        assert store.open_storage(repo).path == str(workspace.parent / "shared/files/md5")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://bucket/path", r"needs the package dvc-gs: .* -m pip install 'dvc\[gs\]=="),
        ("nothing://bucket", "Unsupported URL type nothing://"),
        ("/dev/null/folder", "cannot be reached or used|is not there"),
        ("../a{}b", r"\.\./a\{\}b: DVC does not work with a storage whose path has \{ or \}"),
        ("s3://bucket/{path", "DVC does not work with a storage whose path has"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_changes_nothing(
    url: str, said: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = config()
    with pytest.raises(InputError, match=said):
        switch(monkeypatch, url)
    assert config() == before
    assert not (workspace / ".dvc/config.local").exists()


def test_a_storage_that_gives_back_something_else_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = config()
    opened = store.open_storage

    def lossy(repo: Repo) -> object:
        storage = opened(repo)
        monkeypatch.setattr(storage.fs, "cat_file", lambda _: b"")
        return storage

    monkeypatch.setattr(configure, "open_storage", lossy)
    with pytest.raises(InputError, match="returned other bytes than were written"):
        switch(monkeypatch, str(workspace.parent / "shared"))
    assert config() == before


def test_keys_are_kept_outside_of_git_and_go_with_their_storage(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = workspace / ".dvc/config.local"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    configure.configure("s3://bucket/path", None)
    assert "me" not in local.read_text(), "one half of a key is none"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for an hour")
    configure.configure("s3://bucket/path", None)
    assert "secret" not in local.read_text()
    monkeypatch.delenv("AWS_SESSION_TOKEN")

    configure.configure("s3://bucket/path", "https://s3.example.org")
    assert "secret" not in config()
    assert "endpointurl = https://s3.example.org" in config()
    assert "access_key_id = me\n    secret_access_key = secret\n" in local.read_text()
    assert local.stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    configure.configure("s3://other/path", None)
    assert "endpointurl" not in config()
    assert "access_key_id = me\n" in local.read_text()

    configure.configure("../shared", None)
    assert "secret" not in local.read_text()
    with Repo() as repo:
        assert repo.config["remote"]["storage"]["verify"] is True


def test_nobody_else_can_read_the_keys_while_they_are_written(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = workspace / ".dvc/config.local"
    monkeypatch.setattr(configure, "keys", lambda: {"access_key_id": oct(local.stat().st_mode)[-3:]})
    configure.configure("s3://bucket/path", None)
    assert "access_key_id = 600\n" in local.read_text()


def test_config_local_is_not_in_git() -> None:
    assert Clone(ROOT).run("git", "check-ignore", ".dvc/config.local")


# What a commit of somebody else names


@pytest.fixture
def stranger(workspace: Path) -> Clone:
    """A git repository with DVC and a storage, whose commit names what a test writes."""
    clone = Clone(workspace)
    clone.environment["PYTHONPATH"] = str(ROOT)
    clone.run("dvc", "config", "--unset", "core.no_scm")
    clone.run("git", "init", "--quiet", "--initial-branch=main")
    return clone


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("dvc.yaml", LAUGHS, "dvc.yaml at HEAD: not readable as YAML: line 2: expected values, found the alias"),
        ("dvc.lock", "a: &x [*x]", "dvc.lock at HEAD: not readable as YAML: line 1: expected values, found the alias"),
        ("dvc.yaml", "x" * 1_000_000, "dvc.yaml at HEAD: expected at most 128,000 bytes, found more"),
        ("dvc.yaml", "- " * 50_000, "dvc.yaml at HEAD: not readable as YAML: nested too deeply"),
        ("dvc.yaml", "stages: {a: 1}", "{}: not readable as a git repository with DVC: "),
        ("dvc.lock", "schema: '2.0'\nstages: 1", "{}: not readable as a git repository with DVC: "),
    ],
    ids=lambda value: value[:20],
)
def test_a_hostile_pipeline_is_one_line(name: str, content: str, said: str, stranger: Clone) -> None:
    (stranger.folder / "dvc.yaml").write_text("stages: {a: {cmd: a, outs: [a]}}")
    (stranger.folder / name).write_text(content)
    stranger.commit("Hostile")
    line = error_of(stranger.run("python", "-m", "tools.storage.repair", exit_code=1))
    assert line.startswith("error: " + said.format(stranger.folder))
    with Repo() as repo, pytest.raises(InputError):
        store.unavailable(repo)


def test_what_a_commit_names_does_not_move_the_cursor(stranger: Clone) -> None:
    name = "a\x1b[2J"
    pipeline = {"stages": {"a": {"cmd": "a", "outs": [name]}}}
    lock = {"schema": "2.0", "stages": {"a": {"cmd": "a", "outs": [{"path": name, "hash": "md5", "md5": "0" * 32}]}}}
    (stranger.folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    (stranger.folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    stranger.commit("Hostile")
    assert stranger.run("python", "-m", "tools.storage.repair", exit_code=1).splitlines()[0] == (
        r"a\x1b[2J: missing in the storage, not in this cache; run `make repair` in a clone that has it"
    )
    with Repo() as repo:
        assert store.unavailable(repo) == [r"a\x1b[2J: not in the storage; run `dvc push` in a clone that has it"]


def test_outside_of_a_repository_repair_says_so(tmp_path: Path) -> None:
    outside = Clone(tmp_path)
    printed = outside.run("python", "-m", "tools.storage.repair", exit_code=1, PYTHONPATH=str(ROOT))
    assert "not inside of a DVC repository" in error_of(printed)


# What each kind of storage tells


def test_an_error_without_a_message_is_named() -> None:
    with pytest.raises(InputError, match="or used: TimeoutError"), store.storage_errors():
        raise TimeoutError  # as of a server that does not answer


class Files(SimpleHTTPRequestHandler):
    """Answers the first question only when a second is asked."""

    asked: list[str]
    second: Event
    in_time: list[bool]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        if len(self.asked) > 1:
            self.second.set()
        self.in_time.append(self.second.wait(10))
        super().do_HEAD()


@pytest.fixture
def files_server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in `shared`."""
    Files.asked, Files.second, Files.in_time = [], Event(), []
    with loopback.serving(partial(Files, directory=tmp_path / "shared")) as address:
        yield address
    assert all(Files.in_time), "many are asked for at once"


class Refusing(SimpleHTTPRequestHandler):
    """Gives nobody a file, whether it has the file or not."""

    def do_GET(self) -> None:
        self.send_error(403)

    def do_HEAD(self) -> None:
        self.send_error(403)


class Uploads(SimpleHTTPRequestHandler):
    """Takes files, and removes none."""

    def do_POST(self) -> None:
        content = b""
        while size := int(self.rfile.readline(), 16):  # of a chunk
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        place = Path(self.translate_path(self.path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        self.send_response(201)
        self.end_headers()


@pytest.fixture
def uploads_server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that keeps files in `uploads`."""
    with loopback.serving(partial(Uploads, directory=tmp_path / "uploads")) as address:
        yield address


@pytest.fixture
def refusing_server() -> Iterator[str]:
    with loopback.serving(Refusing) as address:
        yield address


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """DVC's settings of a bucket."""
    with s3.serving(tmp_path / "log") as server:
        identity, secret = server.make_user()
        server.make_bucket("team")
        keys = f"access_key_id = {identity}\nsecret_access_key = {secret}"
        yield f"url = s3://team\nendpointurl = {server.url}\n{keys}\n"


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # of DVC
@pytest.mark.parametrize("kind", ["folder", "http", "s3"])
def test_each_kind_of_storage_gives_the_same_answers(
    kind: str, stranger: Clone, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = stranger.folder / "own"
    pictures.mkdir()
    for number in range(20):
        (pictures / f"{number:02}.png").write_text(f"picture {number // 2}")  # each twice
    for name in ("kept", "cut", "gone"):
        (stranger.folder / name).write_text(name)

    def use(settings: str) -> None:
        (stranger.folder / ".dvc/config.local").write_text(f"['remote \"storage\"']\n{settings}")

    use(request.getfixturevalue("bucket") if kind == "s3" else f"url = {tmp_path}/shared")
    with Repo() as repo:
        repo.add(["own", "kept", "cut", "gone"])
        stranger.commit("Pictures")
        repo.push()
        storage = store.open_storage(repo)
        md5 = {file.path: file.md5 for file in store.files(repo, storage, "HEAD")}
    for path in ("own/06.png", "cut", "gone"):
        storage.delete(md5[path])
    storage.add_bytes(md5["cut"], b"cu")
    if kind == "http":
        use("url = " + request.getfixturevalue("files_server"))

    def found() -> list[str]:
        with Repo() as repo:
            return sorted(store.unavailable(repo))

    in_a_clone = "in a clone that has it"
    of_files = [
        f"cut: damaged in the storage, 2 bytes instead of 3; run `make repair` {in_a_clone}",
        f"gone: not in the storage; run `dvc push` {in_a_clone}",
    ]
    pictures_gone = [f"own/{name}.png: not in the storage; run `{{}}` {in_a_clone}" for name in ("06", "07")]
    assert found() == [*of_files, *(line.format("make repair") for line in pictures_gone)]
    storage.delete(md5["own"])
    of_folder = f"own: not in the storage; run `dvc push` {in_a_clone}"
    expected = sorted([*of_files, of_folder, *(line.format("dvc push") for line in pictures_gone)])
    assert found() == expected
    if kind == "s3":

        def refuse(*_: object) -> None:
            raise PermissionError("Access Denied")

        monkeypatch.setattr(type(storage), "oids_exist", refuse)  # as for keys without the right to list
        assert found() == expected


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # of DVC
def test_a_server_that_removes_nothing_can_be_set(
    stranger: Clone, uploads_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch(monkeypatch, uploads_server)
    (stranger.folder / "one").write_text("one")
    with Repo() as repo:
        repo.add(["one"])
        stranger.commit("One")
        repo.push()
        (out,) = repo.index.outs
        md5 = out.hash_info.value
    place = tmp_path / "uploads/files/md5" / md5[:2] / md5[2:]
    assert place.read_text() == "one"


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # of DVC
def test_a_server_that_gives_no_answer_has_not_lost_the_files(
    stranger: Clone, refusing_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["repair"])
    (stranger.folder / "one").write_text("one")
    with Repo() as repo:
        repo.add(["one"])
    stranger.commit("One")
    local = stranger.folder / ".dvc/config.local"
    local.write_text(f"['remote \"storage\"']\nurl = {refusing_server}\n")
    refused = f"^the storage cannot be reached or used: 403, message='Forbidden', url='{refusing_server}/"
    with Repo() as repo, pytest.raises(InputError, match=refused):
        store.unavailable(repo)
    with pytest.raises(InputError, match=refused):
        repair.main()
    local.write_text("['remote \"storage\"']\nurl = http://127.0.0.1:1\n")
    with Repo() as repo, pytest.raises(InputError, match="cannot be reached or used: Cannot connect to host 127"):
        store.unavailable(repo)


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # of DVC
def test_a_damaged_list_of_a_folder_is_named_by_a_clone_without_the_folder(stranger: Clone, tmp_path: Path) -> None:
    (stranger.folder / "own").mkdir()
    (stranger.folder / "own/1.png").write_text("picture")
    (stranger.folder / ".dvc/config.local").write_text(f"['remote \"storage\"']\nurl = {tmp_path}/shared\n")
    with Repo() as repo:
        repo.add(["own"])
        stranger.commit("Pictures")
        repo.push()
    (listed,) = (tmp_path / "shared").rglob("*.dir")
    listed.unlink()
    listed.write_text("[")
    shutil.rmtree(stranger.folder / ".dvc/cache")
    with Repo() as repo:
        assert store.unavailable(repo) == ["own: damaged in the storage; run `make repair` in a clone that has it"]


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # of DVC
def test_repair_reads_many_at_once_and_replaces_a_content_once(
    stranger: Clone,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["repair"])
    (stranger.folder / "own").mkdir()
    for number in range(6):
        (stranger.folder / f"own/{number}.png").write_text(f"picture {number // 2}")  # each twice
    settings = "['remote \"storage\"']\nurl = "
    local = stranger.folder / ".dvc/config.local"
    local.write_text(f"{settings}{tmp_path}/shared")
    with Repo() as repo:
        repo.add(["own"])
        stranger.commit("Pictures")
        repo.push()
        storage = store.open_storage(repo)
        md5 = {file.path: file.md5 for file in store.files(repo, storage, "HEAD")}
    storage.delete(md5["own/4.png"])
    storage.add_bytes(md5["own/4.png"], b"cut")
    capsys.readouterr()

    def repaired() -> list[str]:
        with pytest.raises(SystemExit, match="0"):
            repair.main()
        return capsys.readouterr().out.splitlines()

    whole = "7 of 7 files of this commit are whole in the storage"
    assert repaired() == ["own/4.png: was damaged in the storage; replaced from the cache", whole]
    local.write_text(settings + request.getfixturevalue("files_server"))
    assert repaired() == [whole]


# What it holds, in a clone with a run


def test_what_is_not_whole_in_the_storage_is_named_and_replaced(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.folder)
    clone.run("dvc", "push")
    with Repo() as repo:
        assert store.unavailable(repo) == []
        storage = store.open_storage(repo)
        files = {file.path: file.md5 for file in store.files(repo, storage, "HEAD")}
        assert set(files) == {
            *(out["path"] for out in outputs(clone)), "data/raw/digits.csv.gz",
        }  # fmt: skip
        place = {path: Path(storage.oid_to_path(md5)) for path, md5 in files.items()}

    place["models/lstm.keras"].unlink()
    place["data/raw/digits.csv.gz"].unlink()
    for path, content in (("data/processed/test.npz", b"cut"), ("data/processed/train.npz", None)):
        good = place[path].read_bytes()
        place[path].unlink()
        place[path].write_bytes(content or bytes(len(good)))
    with Repo() as repo:
        assert sorted(store.unavailable(repo)) == [
            f"data/processed/test.npz: damaged in the storage, 3 bytes instead of {size(clone)}; "
            "run `make repair` in a clone that has it",
            "data/raw/digits.csv.gz: not in the storage; run `make repair` in a clone that has it",
            "models/lstm.keras: not in the storage; run `dvc push` in a clone that has it",
        ]
    (clone.folder / ".dvc/cache/files/md5" / files["models/lstm.keras"][:2]).rename(clone.folder / "elsewhere")
    assert clone.run("python", "-m", "tools.storage.repair", exit_code=1).splitlines()[:5] == [
        "data/raw/digits.csv.gz: was missing in the storage; replaced from the cache",
        "data/processed/train.npz: was damaged in the storage; replaced from the cache",
        "data/processed/test.npz: was damaged in the storage; replaced from the cache",
        "models/lstm.keras: missing in the storage, not in this cache; run `make repair` in a clone that has it",
        "7 of 8 files of this commit are whole in the storage",
    ]
    (clone.folder / "elsewhere").rename(clone.folder / ".dvc/cache/files/md5" / files["models/lstm.keras"][:2])
    assert "models/lstm.keras: was missing" in clone.run("python", "-m", "tools.storage.repair")
    assert clone.run("python", "-m", "tools.storage.repair") == "8 of 8 files of this commit are whole in the storage\n"


def outputs(clone: Clone) -> list[dict[str, str]]:
    lock = yaml.safe_load((clone.folder / "dvc.lock").read_text())
    outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
    return [out for out in outs if not out["path"].startswith("reports/")]


def size(clone: Clone) -> int:
    return (clone.folder / "data/processed/test.npz").stat().st_size


def test_one_line_says_that_there_is_no_storage(clone: Clone) -> None:
    clone.run("dvc", "remote", "remove", "storage")
    assert "no remote" in clone.run("python", "-m", "tools.storage.check", exit_code=1)
    assert "no remote" in error_of(clone.run("python", "-m", "tools.storage.repair", exit_code=1))

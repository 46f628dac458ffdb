"""The HTTP interface: answers, refusals and their words."""

import base64
import errno
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from PIL import Image

from stages.errors import InputError
from stages.find_digit import normalized
from stages.pictures import decode
from tests.serve.conftest import png
from tests.serve.running import Client, in_thread, until
from tools.serve import app, limits
from tools.serve.collect import Collection, FullError
from tools.serve.inference import make_predictor
from tools.serve.limits import HEADERS
from tools.serve.serving import Serving


def error_of(response: requests.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    message = str(response.json()["error"])
    assert "\n" not in message
    return message


# Pictures


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_answered_as_predict_does(client: Client, content: bytes, kind: str) -> None:
    picture = png(kind=kind)
    answer = client.post("/predict", picture, f"image/{kind.lower()}").json()
    (image,) = answer.pop("images")
    assert answer == {"model": "models/lstm.keras", "md5": hashlib.md5(content).hexdigest()}  # noqa: S324
    expected = make_predictor(content, "lstm")(normalized(decode(io.BytesIO(picture)))[np.newaxis])[0]
    assert image == {
        "image": "picture",
        "digit": int(expected.argmax()),
        "confidence": {str(digit): float(share) for digit, share in enumerate(expected)},
    }


def test_a_form_of_pictures_is_answered_in_its_order(client: Client) -> None:
    pictures = [(f"{side}.png", png((side, 2 * side))) for side in (40, 60, 90)]
    answer = client.form("/predict", *pictures).json()
    assert [image["image"] for image in answer["images"]] == ["40.png", "60.png", "90.png"]
    for image, (_, picture) in zip(answer["images"], pictures, strict=True):
        alone = client.post("/predict", picture).json()["images"][0]
        assert image["digit"] == alone["digit"]
        np.testing.assert_allclose(
            list(image["confidence"].values()), list(alone["confidence"].values()), rtol=0, atol=1e-6
        )


def test_the_picture_that_the_model_sees_is_given_if_asked_for(client: Client, picture: bytes) -> None:
    (image,) = client.post("/predict?pixels=true", picture).json()["images"]
    seen = np.frombuffer(base64.b64decode(image["pixels"]), np.uint8).reshape(28, 28)
    np.testing.assert_array_equal(seen, np.round(normalized(decode(io.BytesIO(picture))) * 255))


def test_a_picture_that_cannot_be_read_is_an_error_and_in_a_form_is_skipped(
    client: Client, picture: bytes, blank: bytes
) -> None:
    reason = "blank: expected a digit that stands out from its paper"
    assert error_of(client.post("/predict", blank), 422) == reason
    assert error_of(client.post("/predict", b"no picture"), 422) == "no readable PNG or JPEG"
    answer = client.form("/predict", ("a", blank), ("b", picture), ("c", b"")).json()
    assert [image["image"] for image in answer["images"]] == ["b"]
    assert answer["skipped"] == [{"image": "a", "reason": reason}, {"image": "c", "reason": "no readable PNG or JPEG"}]
    assert client.form("/predict", ("a", blank)).json()["images"] == []


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP", "TIFF"])
def test_other_kinds_of_pictures_are_refused(client: Client, kind: str) -> None:
    assert error_of(client.post("/predict", png(kind=kind)), 422) == "no readable PNG or JPEG"


def test_a_name_from_a_client_is_only_repeated(client: Client, picture: bytes, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    name = "../../etc/passwd\x1b[2J" + "x" * 300
    (image,) = client.form("/predict", (name, picture)).json()["images"]
    assert image["image"] == name[:255]
    assert sorted(tmp_path.rglob("*")) == before


# Refusals


def test_a_body_of_another_kind_is_refused(client: Client, picture: bytes) -> None:
    expected = "expected image/png, image/jpeg or multipart/form-data"
    for kind in ("application/json", "image/gif", "text/html", "application/x-www-form-urlencoded"):
        assert error_of(client.post("/predict", picture, kind), 415) == expected
    assert error_of(client.form("/collect?digit=1", ("a", picture)), 415) == "expected image/png, image/jpeg"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\ntext\r\n--x--\r\n',
        ),
    ],
)
def test_a_form_without_pictures_is_refused(client: Client, kind: str, body: bytes) -> None:
    assert error_of(client.post("/predict", body, kind), 400).startswith("not a form of pictures: ")


def test_too_many_pictures_are_refused(client: Client, picture: bytes) -> None:
    names = [(str(number), picture) for number in range(limits.PICTURES + 1)]
    assert len(client.form("/predict", *names[:-1]).json()["images"]) == 256
    assert error_of(client.form("/predict", *names), 400).endswith("Maximum number of files is 256.")


@pytest.mark.parametrize(
    ("charset", "name", "shown"),
    [
        ("utf-8", "\N{SNOWMAN}".encode(), "\N{SNOWMAN}"),
        ("utf-7", b"+2AA-", "?"),  # half of a character
        ("unicode_escape", rb"\ud800", "?"),
        ("unknown", b"a.png", "a.png"),
    ],
)
def test_a_name_in_any_charset_is_answered(
    charset: str, name: bytes, shown: str, client: Client, picture: bytes
) -> None:
    (image,) = client.post("/predict", form(name, picture), f"{FORM}; charset={charset}").json()["images"]
    assert image["image"] == shown


def test_a_charset_that_decodes_nothing_is_refused(client: Client, picture: bytes) -> None:
    refused = client.post("/predict", form(b"a.png", picture), f"{FORM}; charset=undefined")
    assert error_of(refused, 400) == "not a form of pictures: its names are not in its charset"


FORM = "multipart/form-data; boundary=x"


def form(name: bytes, content: bytes) -> bytes:
    """Write a form of one picture."""
    head = b'Content-Disposition: form-data; name="images"; filename="' + name + b'"'
    return b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n--x--\r\n"


def test_a_body_that_is_too_large_is_refused_whether_its_size_is_told_or_not(client: Client) -> None:
    part = bytes(limits.BODY // 2)
    for body in (bytes(limits.BODY + 1), iter((part, part, b"x"))):
        assert error_of(client.post("/predict", body), 413) == "expected at most 16,777,216 bytes"


def test_a_body_without_an_end_is_cut_off(client: Client, picture: bytes) -> None:
    part = bytes(1024**2)
    with pytest.raises(requests.RequestException):
        client.post("/predict", (part for _ in range(10_000))).raise_for_status()
    assert client.is_well(picture)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(client: Client) -> None:
    assert error_of(client.post("/predict", png((5_001, 5_000))), 422) == (
        "expected at most 25,000,000 pixels, found 5,001 x 5,000"
    )
    assert client.post("/predict", png((2_500, 2_000))).status_code == 200  # a large one


def test_what_is_not_there_is_refused(client: Client) -> None:
    assert error_of(client.get("/nothing"), 404) == "Not Found"
    assert error_of(client.get("/..%2f..%2fetc/passwd"), 404) == "Not Found"
    assert error_of(client.get("/predict"), 405) == "Method Not Allowed"


def test_a_page_of_another_site_may_not_use_the_server(client: Client, picture: bytes, collection: Collection) -> None:
    other = {"Origin": "https://example.org"}
    for headers in (
        {"Sec-Fetch-Site": "cross-site"} | other,
        {"Sec-Fetch-Site": "same-site"} | other,
        other,  # browsers send no more to a server on the network without TLS
        {"Origin": "null"},
        {"Origin": "http://localhost"},
    ):
        # A page can send a body without a type too.
        for kind in ("image/png", "text/plain", "application/x-www-form-urlencoded", FORM, None):
            for path in ("/predict", "/collect?digit=1"):
                refused = client.post(path, picture, kind, headers=headers)
                assert error_of(refused, 403) == "a page of another site may not use this server"
    for header in ({"Origin": "http://[x"}, {"Host": "[x"}, {"Host": "localhost:x"}):
        refused = client.post("/predict", picture, headers=header)
        assert error_of(refused, 403) == "expected a host and a port in Host and Origin"
    assert pictures_in(collection) == []
    preflight = requests.options(
        f"{client.url}/predict",
        headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"},
        timeout=9,
    )
    assert not [name for name in preflight.headers if name.lower().startswith("access-control")]


def test_the_page_of_the_server_may_use_it(client: Client, picture: bytes) -> None:
    for headers in (
        {"Sec-Fetch-Site": "same-origin", "Origin": client.url},
        {"Origin": client.url},
        {"Origin": "http://192.168.1.5:8000", "Host": "192.168.1.5:8000"},  # on a phone
        {"Origin": "http://[::1]:8000", "Host": "[::1]:8000"},
        {"Origin": f"http://localhost:{client.port}", "Host": f"localhost:{client.port}"},
        # Behind the proxy of docs/serving.md
        {"Origin": "http://digits.example.org:8080", "Host": "digits.example.org"},
        {"Origin": "https://digits.example.org", "Host": "digits.example.org", "Sec-Fetch-Site": "same-origin"},
    ):
        assert client.post("/predict", picture, headers=headers).status_code == 200, headers


def test_a_site_whose_dns_names_this_machine_is_refused(client: Client, picture: bytes, collection: Collection) -> None:
    host = f"example.org:{client.port}"
    headers = {"Host": host, "Origin": f"http://{host}"}  # of the same origin for the browser
    refused = [client.get(path, headers=headers) for path in ("/", "/model", "/health", "/metrics")]
    refused += [client.post(path, picture, headers=headers) for path in ("/predict", "/collect?digit=1")]
    for response in refused:
        assert error_of(response, 403) == f"{host} is not this server; open http://127.0.0.1:{client.port}"
    assert pictures_in(collection) == []


@pytest.mark.parametrize(
    ("host", "address", "port", "rebound"),
    [
        ("example.org:8000", "127.0.0.1", 8000, True),
        ("example.org:8000", "::1", 8000, True),
        ("example.org:8000", "::ffff:127.0.0.1", 8000, True),  # with HOST=::
        ("localhost.example.org:8000", "127.0.0.1", 8000, True),
        ("example.org", "127.0.0.1", 80, True),
        ("example.org", "127.0.0.1", 8000, False),  # of a proxy
        ("ann.local:8000", "192.168.1.5", 8000, False),  # with HOST=0.0.0.0, by the name of this machine
        ("localhost:8000", "127.0.0.1", 8000, False),
        ("127.0.0.1:8000", "127.0.0.1", 8000, False),
        ("", "127.0.0.1", 80, False),
    ],
)
def test_a_rebound_name_has_the_port_of_the_server(host: str, address: str, port: int, rebound: bool) -> None:
    assert limits.is_rebound(urlsplit(f"//{host}"), address, port) is rebound


def test_every_answer_has_the_headers_that_protect_the_page(client: Client, picture: bytes) -> None:
    answers = [client.get(path) for path in ("/", "/docs", "/model", "/nothing")]
    answers += [client.post("/predict", picture), client.post("/predict", b"x"), client.post("/predict", b"", "a/b")]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert "server" not in answer.headers
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


# What else it tells


def test_it_tells_which_model_answers(client: Client, content: bytes) -> None:
    md5 = hashlib.md5(content).hexdigest()  # noqa: S324
    assert client.get("/model").json() == {
        "name": "models/lstm.keras", "version": None, "commit": None, "md5": md5, "card": None, "collects": True,
    }  # fmt: skip
    assert client.get("/health").json() == {
        "status": "ok", "model": "models/lstm.keras", "version": None, "md5": md5, "fault": None,
    }  # fmt: skip
    assert requests.head(f"{client.url}/health", timeout=9).status_code == 200


def test_prometheus_reads_what_happened(client: Client, picture: bytes, blank: bytes) -> None:
    client.form("/predict", ("a", picture), ("b", blank))
    digit = client.post("/predict", picture).json()["images"][0]["digit"]
    client.post("/predict", b"x")
    client.get("/x" * 50)
    found = client.get("/metrics").text
    for line in (
        'requests_total{path="/predict",status="200"} 2.0',
        'requests_total{path="/predict",status="422"} 1.0',
        'requests_total{path="other",status="404"} 1.0',
        'request_seconds_count{path="/predict"} 3.0',
        'pictures_total{outcome="read"} 2.0',
        'pictures_total{outcome="refused"} 2.0',
        f'digits_total{{digit="{digit}"}} 2.0',
        "requests_under_way 1.0",
        "model_changes_total 0.0",
    ):
        assert line in found.splitlines(), found
    assert 'name="models/lstm.keras"' in found


def test_the_interface_is_described(client: Client) -> None:
    described = client.get("/openapi.json").json()
    assert sorted(described["paths"]) == ["/collect", "/health", "/model", "/predict"]
    body = described["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert sorted(body) == ["image/jpeg", "image/png", "multipart/form-data"]


# Many at once


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Predictions wait for this event."""
    event = threading.Event()
    look_at = app.look_at

    def wait(*arguments: object) -> object:
        assert event.wait(30)
        return look_at(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(app, "look_at", wait)
    yield event
    event.set()


def test_a_flood_is_told_to_come_back_and_the_rest_is_answered(
    client: Client, picture: bytes, held_up: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUESTS", 4)
    statuses: list[int] = []

    def ask() -> None:
        response = client.post("/predict", picture)
        assert response.status_code == 200 or response.headers["Retry-After"] == "1"
        statuses.append(response.status_code)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: len(statuses) == 8)
    assert statuses == [503] * 8
    assert client.get("/health").ok  # which needs no turn
    held_up.set()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 4 + [503] * 8
    assert client.is_well(picture)


def test_bodies_that_are_too_much_together_are_refused(
    client: Client, picture: bytes, held_up: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HELD", 3 * len(picture) - 1)
    first = threading.Thread(target=client.post, args=("/predict", picture))
    second = threading.Thread(target=client.post, args=("/predict", picture))
    for thread in (first, second):
        thread.start()
    until(lambda: "requests_under_way 3.0" in client.get("/metrics").text)
    until(lambda: client.post("/predict", picture).status_code == 503)
    held_up.set()
    for thread in (first, second):
        thread.join()
    assert client.is_well(picture)


def test_an_answer_that_takes_too_long_is_given_up(
    serving: Serving, picture: bytes, held_up: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.2)
    with in_thread(serving) as client:
        assert error_of(client.post("/predict", picture), 503) == "no answer within 0.2 s"
        held_up.set()
        until(lambda: client.is_well(picture))


def test_no_more_pictures_are_read_for_a_request_that_was_given_up(
    serving: Serving, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.2)
    goes_on, read, look_at = threading.Event(), app.read, app.look_at
    begun: list[str] = []
    found: list[dict[str, Any]] = []

    def wait(of: app.Picture) -> object:
        begun.append(of.name)
        assert goes_on.wait(30)
        return read(of)

    monkeypatch.setattr(app, "read", wait)
    monkeypatch.setattr(app, "look_at", lambda *arguments: found.append(look_at(*arguments)))
    with in_thread(serving) as client:
        refused = client.form("/predict", ("a", picture), ("b", picture), ("c", picture))
        assert error_of(refused, 503) == "no answer within 0.2 s"
        goes_on.set()
        until(lambda: found)
    assert begun == ["a"]
    assert [image["image"] for image in found[0]["images"]] == ["a"]


def test_an_error_of_the_server_is_one_line_to_the_client(
    client: Client, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(app, "look_at", fail)
        assert error_of(client.post("/predict", picture), 500) == "an error of the server; its log has the details"
    with monkeypatch.context() as patch:
        patch.setattr(app, "look_at", lambda *_: (_ for _ in ()).throw(MemoryError))
        assert error_of(client.post("/predict", picture), 503) == "out of memory"
    assert client.is_well(picture)


# Pictures that are saved


def pictures_in(collection: Collection) -> list[Path]:
    """Return all files of a collection but the lock."""
    return [path for path in collection.folder.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_named_picture_is_saved_once_under_its_digit_and_hash(
    client: Client, picture: bytes, collection: Collection
) -> None:
    for _ in range(2):
        saved = client.post("/collect?digit=1", picture).json()["saved"]
    (path,) = pictures_in(collection)
    assert path == collection.folder / saved
    assert path.parent.name == "1"
    assert path.name == f"{hashlib.sha256(path.read_bytes()).hexdigest()}.png"
    np.testing.assert_array_equal(
        np.asarray(Image.open(path)), np.round(decode(io.BytesIO(picture)) * 255).astype(np.uint8)
    )


def test_a_saved_picture_says_nothing_about_its_maker(client: Client, collection: Collection) -> None:
    image = Image.open(io.BytesIO(png()))
    exif = Image.Exif()
    exif[0x013B] = "Somebody"
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    path = collection.folder / client.post("/collect?digit=1", file.getvalue(), "image/jpeg").json()["saved"]
    assert b"Somebody" not in path.read_bytes()


@pytest.mark.parametrize("digit", ["10", "-1", "1.5", "../1", "", "1&digit=x"])
def test_only_a_digit_names_a_folder(client: Client, picture: bytes, collection: Collection, digit: str) -> None:
    assert error_of(client.post(f"/collect?digit={digit}", picture), 422).startswith("digit: Input should be")
    assert pictures_in(collection) == []


def test_what_is_no_picture_is_not_saved(client: Client, collection: Collection) -> None:
    assert error_of(client.post("/collect?digit=1", b"\x89PNG"), 422) == "no readable PNG or JPEG"
    assert pictures_in(collection) == []


def test_a_full_collection_takes_no_more(
    client: Client, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post("/collect?digit=1", png((50, 60))).ok
    with monkeypatch.context() as patch:
        patch.setattr("tools.serve.collect.PICTURES", 1)
        assert error_of(client.post("/collect?digit=1", png((60, 60))), 507).startswith(
            "the collection is full: 1 pict"
        )
        assert client.post("/collect?digit=1", png((50, 60))).ok  # it is there
    with monkeypatch.context() as patch:
        patch.setattr("tools.serve.collect.BYTES", 200)
        assert error_of(client.post("/collect?digit=1", png((60, 60))), 507).startswith(
            "the collection is full: 1 pict"
        )
    assert len(pictures_in(collection)) == 1
    assert client.post("/collect?digit=1", png((60, 60))).ok


def test_a_server_that_saves_nothing_says_how_it_would(serving: Serving, picture: bytes) -> None:
    with in_thread(serving) as client:
        assert client.get("/model").json()["collects"] is False
        assert error_of(client.post("/collect?digit=1", picture), 404) == (
            "this server saves no pictures; start it with COLLECT=folder"
        )


def test_a_folder_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/x: no picture can be saved here: Not a directory; name another"):
        Collection(tmp_path / "file/x")


def test_a_disk_that_does_not_answer_is_no_fault_of_the_client(
    client: Client, picture: bytes, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(*_: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")  # as a network disk

    monkeypatch.setattr(collection, "write", time_out)
    assert error_of(client.post("/collect?digit=1", picture), 500) == "an error of the server; its log has the details"


def test_a_folder_that_was_moved_away_is_made_again(
    client: Client, picture: bytes, collection: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    assert client.post("/collect?digit=1", picture).ok
    assert capsys.readouterr().err == ""
    collection.folder.rename(collection.folder.with_name("moved"))
    assert client.post("/collect?digit=1", picture).ok
    assert len(pictures_in(collection)) == 1
    assert capsys.readouterr().err == f"note: {collection.folder} was gone, and is made again\n"


def test_a_failed_save_leaves_nothing(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FullError, match="the picture is not saved: No space left on device"):
        collection.save(np.ones((4, 4), np.float32), 3)
    assert pictures_in(collection) == []


def test_saves_side_by_side_keep_the_limit(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.serve.collect.PICTURES", 5)
    full = []

    def save(number: int) -> None:
        try:
            # Two processes have an object each.
            Collection(collection.folder).save(np.full((4, 4), number / 20, np.float32), number % 10)
        except FullError as error:
            full.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pictures_in(collection)) == 5
    assert len(full) == 15


def test_answers_are_json_that_any_parser_reads(client: Client, picture: bytes) -> None:
    response = client.form("/predict", ('a"\\\u2028.png', picture))
    assert response.headers["content-type"] == "application/json"
    json.loads(response.content)

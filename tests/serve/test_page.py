"""The page to draw on, in a real browser: mouse, finger, keyboard, pictures, screen reader."""

import base64
import io
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.pages.browser import Pages
from tests.serve.conftest import png
from tests.serve.running import Client, in_thread, until
from tests.serve.test_serving import replace
from tools import md5_of
from tools.serve import limits
from tools.serve.collect import Collection
from tools.serve.serving import Serving

expect.set_options(timeout=30_000)  # on a busy machine an answer takes seconds

SEVEN = [(0.3, 0.25), (0.7, 0.25), (0.45, 0.8)]  # shares of the paper


@pytest.fixture
def page(pages: Pages, client: Client) -> Page:
    page = pages.visit(f"{client.url}/")
    expect(page.locator("#model")).to_contain_text("MD5")
    return page


def draw(page: Page, points: list[tuple[float, float]] = SEVEN) -> None:
    box = page.locator("#drawing").bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()


def paper(page: Page) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the paper's shades of grey."""
    url = page.evaluate("document.getElementById('drawing').toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L"))


def answer(page: Page, client: Client) -> str:
    """Ask the server for the paper's digit, and return what the page must say."""
    file = io.BytesIO()
    Image.fromarray(paper(page)).save(file, "PNG")
    (image,) = client.post("/predict", file.getvalue()).json()["images"]
    first, second = sorted(image["confidence"].items(), key=lambda item: -item[1])[:2]
    return f"This is a {first[0]}: {first[1]:.1%}. Next: {second[0]}, {second[1]:.1%}."


@pytest.mark.parametrize("width", [390, 1366])
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_what_is_drawn_is_read_at_any_width_and_in_both_themes(
    pages: Pages, client: Client, width: int, color_scheme: Literal["light", "dark"]
) -> None:
    page = pages.visit(f"{client.url}/", width, color_scheme)
    draw(page)
    expected = answer(page, client)
    expect(page.locator("#said")).to_have_text(expected)
    digit = expected.split("a ")[1][0]
    expect(page.locator("#digit")).to_have_text(digit)
    expect(page.locator("tr.best th")).to_have_text(digit)
    shares = [float(text.rstrip("%")) for text in page.locator("#bars td:last-child").all_text_contents()]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    widths = page.locator(".bar").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert int(np.argmax(widths)) == int(digit)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "wider than the window"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 18, 22)"
    assert dark == (color_scheme == "dark")
    # The bars are in sight while one draws.
    assert page.locator("#bars").evaluate("bars => bars.getBoundingClientRect().bottom") <= 900


def test_the_bars_move_before_the_stroke_ends(page: Page) -> None:
    box = page.locator("#drawing").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.8, steps=20)
    expect(page.locator("#digit")).to_have_text(re.compile(r"\d"))
    expect(page.locator("#said")).to_have_text("Draw a digit.")  # nothing is read out yet
    page.mouse.up()
    expect(page.locator("#said")).to_have_text(re.compile(r"^This is a \d: "))


def test_the_28_x_28_pixels_are_shown(page: Page, client: Client) -> None:
    draw(page)
    expect(page.locator("#said")).to_have_text(re.compile("^This is"))
    file = io.BytesIO()
    Image.fromarray(paper(page)).save(file, "PNG")
    (image,) = client.post("/predict?pixels=true", file.getvalue()).json()["images"]
    shown = page.evaluate(
        "Array.from(document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    assert bytes(shown[::4]) == base64.b64decode(image["pixels"])


def test_strokes_are_undone_and_cleared(page: Page) -> None:
    undo, clear = (page.get_by_role("button", name=name) for name in ("Undo", "Clear"))
    expect(undo).to_be_disabled()
    blank = paper(page)
    draw(page, [(0.5, 0.2), (0.5, 0.8)])
    one = paper(page)
    draw(page, [(0.2, 0.5), (0.8, 0.5)])
    assert (paper(page) < 128).sum() > (one < 128).sum() > 0
    undo.click()
    np.testing.assert_array_equal(paper(page), one)
    draw(page)
    clear.click()
    np.testing.assert_array_equal(paper(page), blank)
    expect(page.locator("#said")).to_have_text("Draw a digit.")
    expect(page.locator("#digit")).to_have_text("\u2013")
    expect(clear).to_be_disabled()


def test_a_digit_is_drawn_with_the_keyboard_alone(page: Page, client: Client) -> None:
    page.keyboard.press("Tab")
    expect(page.locator("#drawing")).to_be_focused()
    expect(page.locator("#pen")).to_be_visible()
    blank = paper(page)
    page.keyboard.press("ArrowLeft")
    np.testing.assert_array_equal(paper(page), blank)  # the pen is up
    page.keyboard.press("Space")
    expect(page.locator("#pen")).to_have_class("down")
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator("#pen")).not_to_have_class("down")
    dark = np.argwhere(paper(page) < 128)
    # From (133, 70), 20 steps of 7 and one of 28 down, with half a stroke's width around.
    assert abs(dark.min(axis=0) - (60, 123)).max() <= 1
    assert abs(dark.max(axis=0) - (247, 142)).max() <= 1
    expect(page.locator("#said")).to_have_text(answer(page, client))
    page.keyboard.press("Backspace")
    np.testing.assert_array_equal(paper(page), blank)
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Escape")
    assert (paper(page) < 128).any()
    page.keyboard.press("Delete")
    np.testing.assert_array_equal(paper(page), blank)
    page.keyboard.press("Tab")  # the keyboard is not trapped
    expect(page.locator("#drawing")).not_to_be_focused()


def test_a_finger_draws_and_does_not_scroll(browser: Browser, client: Client) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 500}, has_touch=True)
    page.goto(f"{client.url}/")
    session = page.context.new_cdp_session(page)
    box = page.locator("#drawing").bounding_box()
    assert box

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (0.5, 0.9))
    for step in range(1, 9):
        touch("touchMove", (0.5, 0.9 - step / 10))
    touch("touchEnd")
    expect(page.locator("#said")).to_have_text(re.compile("^This is a"))
    assert (paper(page) < 128).sum() > 1_000
    assert page.evaluate("scrollY") == 0
    page.close()


def test_the_page_names_the_model_that_answers(page: Page, client: Client, workspace: Path, newer: bytes) -> None:
    replace(workspace, newer)
    until(lambda: client.get("/model").json()["md5"] == md5_of(newer))
    draw(page)
    expect(page.locator("#model")).to_contain_text(md5_of(newer))


def test_a_screen_reader_finds_names_and_what_changes(page: Page) -> None:
    expect(page.get_by_role("application", name="Paper")).to_have_accessible_description(
        re.compile("^On the paper, arrow keys move the pen, .* Delete clears the paper.$")
    )
    for name in ("Undo", "Clear", "Upload", "Photo", *(f"It is a {digit}" for digit in range(10))):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("table", name="Probability of each digit")).to_be_visible()
    assert page.get_by_role("rowheader").all_text_contents() == [str(digit) for digit in range(10)]
    expect(page.get_by_role("status")).to_have_text("Draw a digit.")
    expect(page.get_by_role("img", name="What the model sees")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"
    boxes = page.locator("button:visible").evaluate_all(
        "buttons => buttons.map(({offsetWidth, offsetHeight}) => Math.min(offsetWidth, offsetHeight))"
    )
    assert min(boxes) >= 44, "smaller than a fingertip"


# Pictures from elsewhere


def shown_picture(page: Page, client: Client, picture: bytes) -> None:
    (image,) = client.post("/predict", picture).json()["images"]
    expect(page.locator("#said")).to_have_text(re.compile(f"^This is a {image['digit']}: "))
    assert (paper(page) < 128).any()


@pytest.mark.parametrize("control", ["file", "camera"])
def test_a_picture_is_uploaded_or_photographed(
    page: Page, client: Client, tmp_path: Path, picture: bytes, control: str
) -> None:
    (tmp_path / "one.png").write_bytes(picture)
    draw(page)
    button = {"file": "Upload", "camera": "Photo"}[control]
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button).click()
    chooser.value.set_files(tmp_path / "one.png")
    shown_picture(page, client, picture)
    assert page.locator("#camera").get_attribute("capture") == "environment"
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#said")).to_have_text("Draw a digit.")


TRANSFER = """([kind, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], "one.png", {type: "image/png"}));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
    : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(page: Page, client: Client, picture: bytes, kind: str) -> None:
    page.evaluate(TRANSFER, [kind, base64.b64encode(picture).decode()])
    shown_picture(page, client, picture)


def test_what_is_no_picture_is_said(page: Page) -> None:
    page.evaluate(TRANSFER, ["drop", base64.b64encode(b"no picture").decode()])
    expect(page.locator("#said")).to_have_text("This is not a picture that can be read. Expected a PNG or JPEG.")


def test_a_picture_without_a_digit_is_said(page: Page, blank: bytes) -> None:
    page.evaluate(TRANSFER, ["paste", base64.b64encode(blank).decode()])
    expect(page.locator("#said")).to_have_text("Not read: blank: expected a digit that stands out from its paper.")


# Saving


def test_a_press_saves_the_drawing_as_a_digit(page: Page, collection: Collection) -> None:
    page.get_by_role("button", name="It is a 7").click()
    expect(page.locator("#said")).to_have_text("Draw a digit first.")
    draw(page)
    expect(page.locator("#said")).to_have_text(re.compile("^This is"))
    page.get_by_role("button", name="It is a 7").click()
    expect(page.locator("#said")).to_have_text("Saved as a 7. Thank you.")
    (saved,) = (collection.folder / "7").glob("*.png")
    np.testing.assert_array_equal(np.asarray(Image.open(saved)), paper(page))


def test_without_a_folder_nothing_is_offered(pages: Pages, serving: Serving) -> None:
    with in_thread(serving) as client:
        page = pages.visit(f"{client.url}/")
        expect(page.locator("#model")).to_contain_text("MD5")
        expect(page.locator("#collect")).to_be_hidden()


# The server


@pytest.fixture
def faulty(browser: Browser) -> Pages:
    """Pages whose failed requests the browser notes."""
    return Pages(browser)


def test_a_busy_server_is_asked_again(faulty: Pages, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    page = faulty.visit(f"{client.url}/")
    with monkeypatch.context() as patch:
        patch.setattr(limits, "REQUESTS", 0)
        draw(page)
        expect(page.locator("#said")).to_have_text("The server is busy; it is asked again.")
    expect(page.locator("#said")).to_have_text(re.compile("^This is"))


def test_a_server_that_is_gone_is_said(faulty: Pages, serving: Serving) -> None:
    with in_thread(serving) as client:
        page = faulty.visit(f"{client.url}/")
        expect(page.locator("#model")).to_contain_text("MD5")
    draw(page)
    expect(page.locator("#said")).to_have_text("The server does not answer.")


def test_the_interface_is_shown_without_a_request_to_another_server(pages: Pages, client: Client) -> None:
    page = pages.visit(f"{client.url}/docs")
    for path in ("/predict", "/collect", "/model", "/health"):
        expect(page.get_by_role("link", name=path, exact=True).or_(page.locator(f'[data-path="{path}"]')).first
               ).to_be_visible()  # fmt: skip


def test_a_photo_of_a_camera_is_read(page: Page, client: Client) -> None:
    photo = png((3_000, 2_000), "JPEG")
    page.evaluate(TRANSFER, ["drop", base64.b64encode(photo).decode()])
    shown_picture(page, client, photo)

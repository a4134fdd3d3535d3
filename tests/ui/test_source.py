"""Source pictures: how they are sent, replaced and taken back."""

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.ui.helpers import (
    choose_source,
    drag,
    drop_file,
    fetch_picture,
    mask_of,
    png_bytes,
    wait_done,
)
from tests.ui.painter import paint

LAKE = paint("a lake at dawn", 3)
HILL = paint("green hills", 5)


@pytest.fixture
def held(page: Page):
    """Uploads that wait: `held()` lets them go."""
    waiting = []
    page.route("**/api/v1/inputs", lambda route: waiting.append(route))

    def go() -> int:
        for route in waiting:
            route.continue_()
        return len(waiting)

    return go


def send(page: Page, pixels: np.ndarray) -> None:
    with page.expect_request("**/api/v1/inputs"):
        page.set_input_files("#source-file", [png_bytes(pixels, "source.png")])


def test_an_upload_is_seen_and_waited_for(page: Page, live, held):
    """Upscale works on the picture that was chosen last, however long it takes to send."""
    old = live.client.post("/api/v1/inputs", files={"file": png_bytes(HILL, "x")["buffer"]}).json()
    page.evaluate(
        """async (image) => {
          const { change } = await import("/static/js/state.js");
          change({ mode: "upscale", image });
        }""",
        old,
    )
    expect(page.locator(".source .thumb img")).to_have_attribute("src", old["url"])
    send(page, LAKE)
    expect(page.get_by_text("Sending the picture…")).to_be_visible()
    page.locator("#generate").click()
    expect(page.locator("#generate")).to_be_disabled()
    page.wait_for_timeout(200)
    assert not live.client.get("/api/v1/jobs").json()["jobs"]
    assert held() == 1
    job = wait_done(page, live)
    sent = fetch_picture(live, {"url": f"/api/v1/images/{job['request']['image']}.png"})
    np.testing.assert_array_equal(sent, LAKE)


def test_an_upload_does_not_pull_back_to_its_kind(page: Page, held):
    page.get_by_role("radio", name="In-paint", exact=True).check()
    send(page, LAKE)
    page.get_by_role("radio", name="Text", exact=True).check()
    page.get_by_label("Prompt", exact=True).fill("a lake")
    with page.expect_response("**/api/v1/inputs"):
        held()
    page.wait_for_timeout(300)
    expect(page.get_by_role("radio", name="Text", exact=True)).to_be_checked()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("radio", name="Upscale", exact=True).check()
    expect(page.locator(".source .thumb img")).to_be_visible()


def test_the_last_of_two_uploads_is_the_picture(page: Page, live):
    """Though the first one arrives after it."""
    page.get_by_role("radio", name="Image", exact=True).check()
    first = []
    page.route(
        "**/api/v1/inputs", lambda route: route.continue_() if first else first.append(route)
    )
    send(page, HILL)
    with page.expect_response("**/api/v1/inputs"):
        send(page, LAKE)
    picture = page.locator(".source .thumb img")
    expect(page.get_by_text("Sending the picture…")).to_have_count(0)
    url = picture.get_attribute("src")
    with page.expect_response("**/api/v1/inputs"):
        first[0].continue_()
    page.wait_for_timeout(300)
    expect(picture).to_have_attribute("src", url)
    np.testing.assert_array_equal(fetch_picture(live, {"url": url}), LAKE)


def test_a_dropped_picture_is_sent_once(page: Page):
    sent = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    drop_file(page, png_bytes(LAKE, "x")["buffer"])
    expect(
        page.get_by_text("No settings found in it; it is now the source picture.")
    ).to_be_visible()
    expect(page.get_by_text("Sending the picture…")).to_have_count(0)
    expect(page.get_by_role("radio", name="Image", exact=True)).to_be_checked()
    assert [url.rpartition("/")[2] for url in sent if "tokens" not in url] == ["inputs"]


def test_a_refused_upload_is_told_at_its_place_and_nothing_is_sent(page: Page, live, provoked):
    provoked.append("status of 422")
    page.get_by_role("radio", name="Upscale", exact=True).check()
    choose_source(page, HILL)
    waiting = []
    page.route("**/api/v1/inputs", lambda route: waiting.append(route))
    text = {"name": "x.png", "mimeType": "image/png", "buffer": b"x"}
    with page.expect_request("**/api/v1/inputs"):
        page.set_input_files("#source-file", [text])
    page.locator("#generate").click()
    expect(page.locator("#generate")).to_be_disabled()
    waiting[0].continue_()
    expect(page.locator("#e-image")).to_have_text("This is not a PNG, JPEG or WebP picture.")
    expect(page.locator("#generate")).to_be_enabled()
    assert not live.client.get("/api/v1/jobs").json()["jobs"]
    expect(page.locator(".source .thumb img")).to_be_visible()  # the one of before


def test_replacing_and_removing_a_source_is_taken_back_with_its_mask(page: Page, live):
    page.get_by_role("radio", name="In-paint", exact=True).check()
    choose_source(page, LAKE)
    drag(page, (0.3, 0.5), (0.7, 0.5))
    painted = page.locator(".mask-editor .dialog-head .hint").inner_text()
    page.get_by_role("button", name="Done").click()
    source = page.locator(".source")
    expect(source.get_by_role("button", name="Undo")).to_have_count(0)
    with page.expect_response("**/api/v1/inputs"):
        page.set_input_files("#source-file", [png_bytes(HILL, "hill.png")])
    expect(page.get_by_text("Nothing painted yet")).to_be_visible()
    page.get_by_role("button", name="Done").click()
    source.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Edit the mask").first.click()
    expect(page.locator(".mask-editor .dialog-head .hint")).to_have_text(painted)
    page.get_by_role("button", name="Done").click()
    source.get_by_role("button", name="Remove").click()
    expect(page.locator(".dropzone")).to_be_visible()
    source.get_by_role("button", name="Undo").click()
    page.get_by_label("Prompt", exact=True).fill("a volcano")
    page.locator("#generate").click()
    job = wait_done(page, live)
    assert mask_of(live, job).max() == 255
    sent = fetch_picture(live, {"url": f"/api/v1/images/{job['request']['image']}.png"})
    np.testing.assert_array_equal(sent, LAKE)


def test_a_tall_picture_is_seen_whole(page: Page):
    page.get_by_role("radio", name="In-paint", exact=True).check()
    choose_source(page, np.concatenate([LAKE] * 3))
    page.get_by_role("button", name="Done").click()
    thumb = page.locator(".source .thumb").bounding_box()
    picture = page.locator(".source .thumb img").bounding_box()
    assert picture["height"] <= thumb["height"]
    assert abs(picture["height"] / picture["width"] - 3) < 0.1

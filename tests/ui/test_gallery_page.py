"""The gallery: favourites, pictures chosen together, downloads, comparison, orders."""

import io
import re
import zipfile

import pytest
from playwright.sync_api import Page, expect

from dg2_jax.serve.routes.page import STATIC
from tests.ui.helpers import PHONE, PROMPTS, fill_gallery, violations

NEWEST = PROMPTS[::-1]


@pytest.fixture
def gallery(open_page, live) -> Page:
    """A desktop's page with nine pictures."""
    fill_gallery(live)
    page = open_page()
    expect(tiles(page)).to_have_count(9)
    return page


def tiles(page: Page):
    return page.locator(".thumbs .tile")


def names(page: Page) -> list[str]:
    """The prompts of the tiles in their order."""
    labels = tiles(page).evaluate_all("all => all.map(e => e.ariaLabel)")
    return [re.fullmatch(r"Open “(.*), seed \d+”", label).group(1) for label in labels]


def chosen(page: Page) -> list[int]:
    """The places of the chosen tiles."""
    picks = page.locator(".thumbs .pick").evaluate_all("all => all.map(e => e.ariaChecked)")
    return [i for i, checked in enumerate(picks) if checked == "true"]


def choose(page: Page, *places: int) -> None:
    for place in places:
        tiles(page).nth(place).click(modifiers=["Control"])


def test_favourites_are_seen_in_every_tab(gallery, live):
    page = gallery
    tiles(page).nth(2).hover()
    page.get_by_role("button", name=f"Favourite: “{NEWEST[2]}").click()
    tiles(page).nth(4).click()
    heart = page.get_by_role("dialog").get_by_role("button", name="Favourite")
    heart.click()
    expect(heart).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("f")
    expect(heart).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("f")
    expect(heart).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    with page.context.browser.new_context() as other:
        tab = other.new_page()
        tab.goto(live.url)
        tab.get_by_role("button", name="Favourites only").click()
        expect(tiles(tab)).to_have_count(2)
        assert names(tab) == [NEWEST[2], NEWEST[4]]
        tab.get_by_role("button", name=f"Favourite: “{NEWEST[2]}").click()
        expect(tab.locator(".mark[aria-pressed=true]")).to_have_count(1)
    page.evaluate("dispatchEvent(new Event('focus'))")  # the user comes back to this window
    expect(page.locator(".mark[aria-pressed=true]")).to_have_count(1)


def test_pictures_are_chosen_by_mouse(gallery):
    page = gallery
    tiles(page).nth(1).hover()
    page.locator(".thumbs .pick").nth(1).click()
    assert chosen(page) == [1]
    tiles(page).nth(4).click(modifiers=["Shift"])
    assert chosen(page) == [1, 2, 3, 4]
    tiles(page).nth(2).click()  # while some are chosen, a click chooses
    assert chosen(page) == [1, 3, 4]
    choose(page, 6)
    expect(page.get_by_role("status").filter(has_text="4 selected")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Select all").click()
    assert len(chosen(page)) == 9
    page.get_by_role("button", name="Done").click()
    tiles(page).nth(2).click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_pictures_are_chosen_by_keyboard(gallery):
    page = gallery
    page.get_by_label("Tile size").focus()
    page.keyboard.press("Tab")
    expect(tiles(page).first).to_be_focused()
    for key in ("ArrowRight", "x", "Shift+ArrowRight", "Shift+ArrowRight", "ArrowRight", "x"):
        page.keyboard.press(key)
    assert chosen(page) == [1, 2, 3, 4]
    page.keyboard.press("f")
    expect(page.locator(".mark[aria-pressed=true]")).to_have_count(4)
    page.keyboard.press("Home")
    expect(tiles(page).first).to_be_focused()
    down = page.evaluate(
        """() => {
          const tops = [...document.querySelectorAll(".thumbs li")].map((e) => e.offsetTop);
          return tops.findIndex((top) => top > tops[0]);
        }"""
    )
    page.keyboard.press("ArrowDown")
    expect(tiles(page).nth(down)).to_be_focused()
    page.keyboard.press("Escape")
    assert chosen(page) == []
    page.keyboard.press("Control+a")
    assert len(chosen(page)) == 9
    page.keyboard.press("Delete")
    expect(page.get_by_text("9 pictures deleted.")).to_be_visible()
    expect(tiles(page)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(tiles(page)).to_have_count(9)
    assert names(page) == list(NEWEST)


def test_deletion_by_key_goes_on_with_the_next_and_is_undone_anywhere(gallery, live):
    page = gallery
    tiles(page).nth(2).focus()
    page.keyboard.press("Delete")
    expect(tiles(page)).to_have_count(8)
    expect(tiles(page).nth(2)).to_be_focused()
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    expect(tiles(page)).to_have_count(9)
    assert names(page) == list(NEWEST)
    assert len(live.client.get("/api/v1/images").json()["images"]) == 9


def test_escape_ends_choosing_and_cancels_no_job(gallery, live):
    page = gallery
    live.pipe.go.clear()
    page.get_by_label("Prompt", exact=True).fill("a lake")
    page.locator("#generate").click()
    expect(page.locator(".job[data-status=running]")).to_be_visible()
    choose(page, 1)
    page.locator("h1").click()
    page.keyboard.press("Escape")
    expect(page.locator(".selection")).to_have_count(0)
    live.pipe.go.set()
    expect(page.locator(".job")).to_have_attribute("data-status", "done")


def test_looking_again_keeps_all_that_was_loaded(page: Page, live):
    """Of more pictures than a page of the server holds, the first ones are asked for anew."""
    code = (STATIC / "js" / "gallery_state.js").read_text()
    assert "const PAGE = 60;" in code
    assert "const MOST = 200;" in code
    code = code.replace("const PAGE = 60;", "const PAGE = 3;").replace("MOST = 200;", "MOST = 4;")
    answer = {"body": code, "content_type": "text/javascript"}
    page.route("**/gallery_state.js", lambda route: route.fulfill(**answer))
    fill_gallery(live)
    page.reload()
    for count in (3, 6, 9):
        expect(tiles(page)).to_have_count(count)
        if count < 9:
            page.get_by_role("button", name="Show more").click()
    newest = live.finished(live.submit(prompt="a new one", seed=1)["id"])["images"][0]
    ids = [i["id"] for i in live.client.get("/api/v1/images").json()["images"]]
    live.client.delete(f"/api/v1/images/{ids[2]}")
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.locator(f'[data-id="{newest["id"]}"]')).to_be_visible()
    wanted = [image_id for image_id in ids if image_id != ids[2]]
    expect(tiles(page)).to_have_count(len(wanted))
    assert tiles(page).evaluate_all("all => all.map((e) => e.dataset.id)") == wanted


def test_chosen_pictures_are_downloaded_by_the_names_wanted(gallery, live):
    page = gallery
    page.get_by_role("button", name="Preferences").click()
    pattern = page.get_by_label("File names of downloads")
    expect(pattern).to_have_value("{prompt} {seed}")
    pattern.fill("{seed} {nobody}")
    expect(page.get_by_text("“{nobody}” is not the name of a setting.")).to_be_visible()
    pattern.fill("{seed}-{prompt}")
    page.keyboard.press("Escape")
    choose(page, 0, 1, 8)
    with page.expect_download() as download:
        page.get_by_role("toolbar").get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "pictures.zip"
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        found = [f"11-{NEWEST[0]}.png", f"10-{NEWEST[1]}.png", f"3-{NEWEST[8]}.png"]
        assert archive.namelist() == found
    choose(page, 1, 8)
    with page.expect_download() as download:
        page.get_by_role("toolbar").get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == f"11-{NEWEST[0]}.png"
    page.reload()
    tiles(page).nth(3).click()
    with page.expect_download() as download:
        page.get_by_role("dialog").get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == f"8-{NEWEST[3]}.png"


def test_chosen_pictures_are_deleted_together(gallery, live):
    page = gallery
    choose(page, 0, 2, 3)
    page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("3 pictures deleted.")).to_be_visible()
    expect(tiles(page)).to_have_count(6)
    assert len(live.client.get("/api/v1/images").json()["images"]) == 6
    expect(page.locator(".selection")).to_have_count(0)


def test_any_two_pictures_are_compared(gallery, live):
    page = gallery
    fields = {"num_inference_steps": 9, "solver": "ddim", "seed": 3}
    live.finished(live.submit(prompt="a calm lake at dawn", **fields)["id"])
    page.reload()
    expect(tiles(page)).to_have_count(10)
    choose(page, 0, 9)
    page.get_by_role("toolbar").get_by_role("button", name="Compare").click()
    dialog = page.get_by_role("dialog", name="Compare two pictures")
    slider = dialog.get_by_role("slider", name="How much of the first picture is shown")
    slider.fill("20")
    assert page.locator(".compare").evaluate("e => e.style.getPropertyValue('--split')") == "20%"
    texts = dialog.locator(".differences tbody tr").all_inner_texts()
    assert [[cell.strip() for cell in text.split("\t")] for text in texts] == [
        ["Steps", "9", "1"],
        ["Solver", "DDIM", "DPM++ 2M"],
    ]
    assert violations(page) == []
    dialog.get_by_role("button", name="Side by side").click()
    pictures = dialog.locator(".beside img")
    expect(pictures).to_have_count(2)
    left, right = (picture.bounding_box() for picture in pictures.all())
    assert left["x"] + left["width"] < right["x"]
    assert left["height"] == right["height"]
    before = pictures.first.get_attribute("src")
    dialog.get_by_role("button", name="Swap").click()
    expect(pictures.nth(1)).to_have_attribute("src", before)
    assert violations(page) == []


def test_orders_and_sizes_are_kept(gallery, live):
    page = gallery
    small = tiles(page).first.bounding_box()["width"]
    page.get_by_label("Sort").select_option("By prompt")
    expect(tiles(page).first).to_have_attribute("aria-label", re.compile(sorted(PROMPTS)[0]))
    assert names(page) == sorted(PROMPTS)
    page.get_by_label("Tile size").select_option("Large")
    large = tiles(page).first.bounding_box()["width"]
    assert large > 1.8 * small
    page.reload()
    expect(tiles(page)).to_have_count(9)
    assert names(page) == sorted(PROMPTS)
    assert tiles(page).first.bounding_box()["width"] == large
    page.get_by_label("Sort").select_option("Oldest")
    expect(tiles(page).first).to_have_attribute("aria-label", re.compile(PROMPTS[0]))
    assert names(page) == list(PROMPTS)


@pytest.mark.parametrize("width", [390, 768, 1440, 2560])
def test_the_gallery_fits_every_width(open_page, live, width):
    fill_gallery(live)
    look = PHONE if width == 390 else {"viewport": {"width": width, "height": 1000}}
    page = open_page(**look)
    page.get_by_role("button", name="Select pictures").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    tiles(page).nth(0).click()
    tiles(page).nth(1).click()
    assert chosen(page) == [0, 1]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert violations(page) == []
    page.get_by_role("toolbar").get_by_role("button", name="Compare").click()
    expect(page.locator(".compare-dialog")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width

"""The prompt: what is put into it, weighed, recalled, matched, and told of it before it is sent."""

import pytest
from playwright.sync_api import Page, expect

from dg2_jax.text.loading import load_text_encoder
from tests.ui.helpers import PHONE, generate, shown_job


@pytest.fixture
def prompt(page: Page):
    return page.get_by_label("Prompt", exact=True)


def test_a_random_prompt_leaves_the_typed_one_to_be_had_again(page: Page, prompt):
    prompt.fill("my own lake")
    page.get_by_role("button", name="Random", exact=True).click()
    expect(prompt).to_have_value("a lake at dawn")
    page.locator("h1").click()
    with page.expect_response("**/bank/random*"):
        page.keyboard.press("r")
    page.get_by_role("button", name="Undo").click()
    expect(prompt).to_have_value("my own lake")
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_a_long_prompt_scrolls_in_its_box(open_page):
    for options in ({}, PHONE):
        page = open_page(**options)
        prompt = page.get_by_label("Prompt", exact=True)
        prompt.fill("a long lake " * 250)
        sizes = prompt.evaluate("e => [e.clientHeight, e.scrollHeight, innerHeight]")
        assert sizes[0] < 0.45 * sizes[2]
        assert sizes[1] > 2 * sizes[0]
        prompt.evaluate("e => { e.scrollTop = e.scrollHeight }")
        assert prompt.evaluate("e => e.scrollTop") > 0
        expect(page.locator("#generate")).to_be_in_viewport()


def test_the_direction_of_a_prompt_is_that_of_its_script(page: Page, prompt):
    prompt.fill("بحيرة عند الفجر")
    expect(prompt).to_have_css("direction", "rtl")
    prompt.fill("a lake at dawn")
    expect(prompt).to_have_css("direction", "ltr")


def test_syntax_and_length_of_every_text_are_told_before_sending(page: Page, live, prompt):
    """The syntax also while no model is in memory, whose tokens could be counted."""
    prompt.fill("a (lake:9)")
    expect(page.locator(".tokens-problem")).to_contain_text("from 0 to 2")
    prompt.fill("a lake in __seasons__")
    expect(page.locator(".tokens-problem")).to_contain_text("names the wildcard 'seasons'")
    prompt.fill("a lake <lora:ink:x>")
    expect(page.locator(".tokens-problem")).to_contain_text("<lora:name:0.8>")
    prompt.fill("a lake")
    expect(page.locator(".tokens-problem")).to_have_count(0)
    page.get_by_label("Negative prompt").fill("fog [a|b]")
    expect(page.locator(".tokens-problem")).to_contain_text("negative_prompt must not")
    page.get_by_label("Negative prompt").fill("")
    live.pipe.text_encoder = load_text_encoder("minilm", 10)
    page.get_by_role("radio", name="Anagram", exact=True).check()
    page.get_by_label("Reading 2", exact=True).fill("a red lake under a blue mountain at dawn")
    expect(page.locator(".reading").nth(1)).to_contain_text("will not read “dawn”")
    assert not live.client.get("/api/v1/jobs").json()["jobs"]


def test_candidates_follow_edits_and_the_second_press_searches_again(page: Page, prompt):
    prompt.fill("a lake")
    match = page.get_by_role("button", name="Match", exact=True)
    match.click()
    rows = page.locator(".candidates button")
    expect(rows.first).to_contain_text("a lake at dawn")
    prompt.fill("a snowy hill")
    expect(rows.first).to_contain_text("a snowy summit")
    with page.expect_request("**/bank/match") as asked:
        match.click()
    usual = {"prompt": "a snowy hill", "bank": "train", "k": 5, "temperature": 0}
    assert asked.value.post_data_json == {**usual, "min_similarity": None}
    for name, value in (("Matches", "2"), ("Temperature", "1.5"), ("Minimum similarity", "0.9")):
        with page.expect_request("**/bank/match") as asked:
            page.get_by_label(name, exact=True).fill(value)
    chosen = {"k": 2, "temperature": 1.5, "min_similarity": 0.9}
    assert asked.value.post_data_json == {**usual, **chosen}
    expect(rows).to_have_count(2)
    rows.nth(1).click()  # the others stay to choose from
    page.wait_for_timeout(600)
    expect(rows.first).to_contain_text("a snowy summit")
    page.get_by_role("button", name="Close the list of matches").click()
    expect(rows).to_have_count(0)
    page.reload()
    match.click()
    expect(page.get_by_label("Temperature")).to_have_value("1.5")


@pytest.mark.parametrize(
    ("text", "words", "keys", "after", "then"),
    [
        ("a red lake", "red", "u", "a (red:1.1) lake", "red"),
        ("a red lake", "red", "uuu", "a (red:1.3) lake", "red"),
        ("a red lake", "red", "dd", "a (red:0.8) lake", "red"),
        ("a red lake", "red", "ud", "a red lake", "red"),
        ("a (red:1.5) lake", "red", "u", "a (red:1.6) lake", "red"),
        ("a (red:1.5) lake", "(red:1.5)", "d", "a (red:1.4) lake", "red"),
        ("a red lake here", "red lake ", "u", "a (red lake:1.1) here", "red lake"),
        ("a (red:2) lake", "red", "u", "a (red:2) lake", "red"),
        ("a red (lake", "red (lake", "u", "a red (lake", "red (lake"),
    ],
)  # fmt: skip
def test_ctrl_and_arrows_weigh_the_selected_words(page, prompt, text, words, keys, after, then):
    prompt.fill(text)
    start = text.index(words)
    prompt.evaluate("(e, [a, b]) => e.setSelectionRange(a, b)", [start, start + len(words)])
    for key in keys:
        prompt.press("Control+ArrowUp" if key == "u" else "Control+ArrowDown")
    expect(prompt).to_have_value(after)
    assert prompt.evaluate("e => e.value.slice(e.selectionStart, e.selectionEnd)") == then


def test_the_word_at_the_cursor_is_weighed_and_the_browsers_undo_takes_it_back(
    page: Page, prompt, live
):
    prompt.fill("a red lake, deep")
    prompt.evaluate("e => e.setSelectionRange(8, 8)")
    prompt.press("Control+ArrowUp")
    expect(prompt).to_have_value("a red (lake:1.1), deep")
    prompt.press("Control+z")
    expect(prompt).to_have_value("a red lake, deep")
    prompt.press("Control+y")
    assert generate(page, live)["request"]["prompt"] == "a red (lake:1.1), deep"


def test_earlier_prompts_are_recalled(page: Page, live, prompt):
    for text in ("a lake", "a volcano", "a lake"):
        prompt.fill(text)
        with page.expect_response("**/api/v1/jobs"):
            page.locator("#generate").click()
    page.reload()
    prompt.fill("half a thought")
    page.get_by_role("button", name="Recent").click()
    rows = page.locator(".recalled button")
    expect(rows).to_have_text(["a lake", "a volcano"])
    page.get_by_label("Search recent prompts").fill("volc")
    rows.click()
    expect(prompt).to_have_value("a volcano")
    page.get_by_role("button", name="Undo").click()
    expect(prompt).to_have_value("half a thought")
    page.get_by_role("button", name="Clear all").click()
    expect(rows).to_have_count(0)


def test_styles_are_stored_chosen_and_deleted(page: Page, live, prompt):
    prompt.fill("an ink drawing of {prompt}")
    page.get_by_role("button", name="Styles").click()
    page.get_by_role("button", name="New style").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Enter a name.")).to_be_visible()
    page.get_by_label("Style name").fill("ink")
    page.get_by_label("Text for the negative prompt").fill("colour")
    page.get_by_role("button", name="Save", exact=True).click()
    style = page.get_by_role("button", name="ink an ink drawing")
    style.click()
    expect(style).to_have_attribute("aria-pressed", "true")
    prompt.fill("a lake")
    job = generate(page, live)
    made = {"prompt": "an ink drawing of a lake", "negative_prompt": "colour", "styles": []}
    assert made.items() <= job["request"].items()
    page.reload()
    expect(page.get_by_role("button", name="Remove style ink")).to_be_visible()
    page.get_by_role("button", name="Reuse settings").click()
    expect(prompt).to_have_value("an ink drawing of a lake")  # with the style inside: not twice
    expect(page.get_by_role("button", name="Remove style ink")).to_have_count(0)
    page.get_by_role("button", name="Styles").click()
    page.get_by_role("button", name="Delete style ink").click()
    expect(style).to_have_count(0)
    assert live.client.get("/api/v1/styles").json() == {"styles": []}


def test_what_wildcards_came_to_is_what_a_picture_brings_back(page: Page, live, prompt):
    prompt.fill("a lake in")
    menu = page.get_by_label("Add to the prompt")
    menu.select_option("Wildcard: season")
    expect(prompt).to_have_value("a lake in __season__")
    expect(menu).to_have_value("Insert…")  # the same one can be added again
    page.get_by_label("Pictures, exactly").fill("4")
    job = generate(page, live)
    prompts = [image["prompt"] for image in job["images"]]
    assert all(
        text.rpartition(" ")[2] in ("spring", "summer", "autumn", "winter") for text in prompts
    )
    page.locator(".tiles .tile").nth(2).click()
    page.get_by_role("dialog").get_by_role("button", name="Reuse settings").click()
    expect(prompt).to_have_value(prompts[2])


def test_prompts_come_from_a_file_a_job_for_each(page: Page, live, prompt):
    def choose(text: str) -> None:
        file = {"name": "list.txt", "mimeType": "text/plain", "buffer": text.encode()}
        page.set_input_files("#prompt-file", [file])

    choose(" \n")
    expect(page.get_by_text("This file contains no prompts.")).to_be_visible()
    choose("a lake\r\n\r\na (hill:9)\n")
    page.get_by_role("button", name="Queue 2 jobs").click()
    expect(page.get_by_text("Line 2: prompt")).to_be_visible()
    assert not live.client.get("/api/v1/jobs").json()["jobs"]
    page.get_by_label("Steps, exactly").fill("3")
    choose("a lake\na hill\na {river|stream}\n")
    page.get_by_role("button", name="Queue 3 jobs").click()
    expect(page.get_by_text("list.txt")).to_have_count(0)
    shown_job(page, live)
    jobs = live.client.get("/api/v1/jobs").json()["jobs"]
    assert [job["request"]["prompt"] for job in jobs] == ["a {river|stream}", "a hill", "a lake"]
    assert {job["request"]["num_inference_steps"] for job in jobs} == {3}

"""Jobs under way: what the stage shows, the queue, other tabs, the server that is gone."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.ui.helpers import (
    SLOW_STEPS,
    choose_source,
    generate,
    shown_job,
    slowed,
    stopped,
    violations,
    wait_done,
)
from tests.ui.painter import paint


def ask(page: Page, prompt: str, steps: int) -> None:
    """Sends a job."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Steps, exactly").fill(str(steps))
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.locator("#generate").click()


def rows(page: Page):
    return page.locator(".others li b")


@pytest.fixture
def held(page: Page, live) -> Page:
    """A page whose first job waits within its first step; three more wait behind it."""
    live.pipe.go.clear()
    ask(page, "first", 20)
    expect(page.locator(".job[data-status=running]")).to_be_visible()
    for i, prompt in enumerate(("second", "third", "fourth")):
        ask(page, prompt, 11 + i)
    expect(rows(page)).to_have_text(["second", "third", "fourth"])
    return page


def test_adding_to_the_queue_keeps_the_preview(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a glacier")
    page.get_by_label("Steps, exactly").fill(str(SLOW_STEPS))
    with slowed(live):
        page.locator("#generate").click()
        expect(page.locator("img.preview")).to_be_visible()
        first = shown_job(page, live)["id"]
        with stopped(live):
            ask(page, "a lake", 11)
            expect(page.get_by_text("Added to the queue.")).to_be_visible()
            expect(rows(page)).to_have_text(["a lake"])
            expect(page.locator("img.preview")).to_be_visible()
            assert page.url.endswith(first)
            page.locator(".others li .quiet").click()
            expect(page.locator(".progress-text")).to_have_text("Next in the queue")
    assert wait_done(page, live)["request"]["prompt"] == "a lake"


def test_the_queue_is_ordered_paused_and_cleared(held, live):
    page = held
    page.get_by_role("button", name="Move down: second").click()
    expect(rows(page)).to_have_text(["third", "second", "fourth"])
    page.get_by_role("button", name="Move up: fourth").click()
    expect(rows(page)).to_have_text(["third", "fourth", "second"])
    expect(page.get_by_role("button", name="Move up: third")).to_be_disabled()
    expect(page.get_by_role("button", name="Move down: second")).to_be_disabled()
    assert violations(page) == []
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    live.pipe.go.set()
    wait_done(page, live)
    expect(page.locator(".others small")).to_have_text(["Paused"] * 3)
    page.reload()
    expect(rows(page)).to_have_text(["third", "fourth", "second"])
    page.get_by_role("button", name="Cancel: fourth").click()
    expect(rows(page)).to_have_text(["third", "second"])
    page.get_by_role("button", name="Resume").click()
    expect(rows(page)).to_have_count(0)
    made = [call["prompt"][0] for call in live.pipe.calls]
    assert made == ["first", "third", "second"]


def test_all_that_wait_are_cancelled_at_once(held, live):
    page = held
    page.get_by_role("button", name="Cancel all waiting jobs").click()
    expect(rows(page)).to_have_count(0)
    live.pipe.go.set()
    wait_done(page, live)
    statuses = [job["status"] for job in live.client.get("/api/v1/jobs").json()["jobs"]]
    assert statuses == ["cancelled"] * 3 + ["done"]


def test_a_second_tab_sees_all_jobs_and_their_results(page: Page, live):
    second = page.context.new_page()
    second.goto(live.url)
    expect(second.locator("#generate")).to_be_visible()
    live.pipe.go.clear()
    ask(page, "first", 20)
    ask(page, "second", 11)
    expect(rows(second)).to_have_text(["first", "second"])
    live.pipe.go.set()
    expect(rows(second)).to_have_count(0)
    expect(second.locator(".thumbs .tile")).to_have_count(2)
    second.close()


def test_history_shows_what_became_of_jobs(page: Page, live, provoked):
    page.get_by_label("Prompt", exact=True).fill("!value")
    page.locator("#generate").click()
    expect(page.locator(".failure")).to_be_visible()
    page.get_by_label("Prompt", exact=True).fill("a lake")
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.locator("#generate").click()
    wait_done(page, live)
    made = shown_job(page, live)["id"]
    live.finished(live.submit(prompt="of another client")["id"])
    page.locator("h1").click()
    page.keyboard.press("h")
    history = page.get_by_role("dialog", name="History")
    found = history.locator(".bank-prompt b")
    expect(found).to_have_text(["a lake", "!value"])
    assert violations(page) == []
    history.get_by_label("Status").select_option("Failed")
    expect(found).to_have_text(["!value"])
    history.get_by_label("Status").select_option("All")
    history.get_by_label("Search your jobs").fill("LAKE")
    expect(found).to_have_text(["a lake"])
    found.first.click()
    expect(history).to_have_count(0)
    expect(page.locator(".job-title")).to_have_text("a lake")
    assert page.url.endswith(made)
    page.get_by_role("button", name="History").click()
    history.get_by_role("button", name="Run again: a lake").click()
    page.wait_for_url(lambda url: not url.endswith(made))
    assert wait_done(page, live)["request"]["prompt"] == "a lake"


def test_pictures_are_made_until_stopped(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("a glacier")
    page.get_by_label("Steps, exactly").fill("3")
    live.pipe.go.clear()
    page.get_by_role("button", name="Generate until stopped").click()
    expect(rows(page)).to_have_count(1)
    page.wait_for_timeout(2000)
    assert len(live.client.get("/api/v1/jobs").json()["jobs"]) == 2  # one runs, one waits
    live.pipe.go.set()
    tiles = page.locator(".thumbs .tile")
    expect(tiles.nth(4)).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Stop generating").click()
    expect(page.get_by_role("button", name="Generate until stopped")).to_be_visible()
    expect(rows(page)).to_have_count(0)
    wait_done(page, live)
    jobs = live.client.get("/api/v1/jobs").json()["jobs"]
    seeds = {job["request"]["seed"] for job in jobs}
    assert len(seeds) == len(jobs) >= 5
    page.wait_for_timeout(1500)
    assert len(live.client.get("/api/v1/jobs").json()["jobs"]) == len(jobs)


def test_making_pictures_stops_where_a_job_is_refused(page: Page, live):
    page.get_by_label("Steps, exactly").fill("0")
    page.get_by_role("button", name="Generate until stopped").click()
    expect(page.locator("#e-num_inference_steps")).to_be_visible()
    expect(page.get_by_role("button", name="Generate until stopped")).to_be_visible()


def test_a_kind_without_seeds_is_not_made_until_stopped(page: Page, live):
    live.pipe.go.clear()
    page.get_by_label("Prompt", exact=True).fill("a lake")
    page.get_by_role("button", name="Generate until stopped").click()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("radio", name="Upscale", exact=True).check()
    expect(page.locator("#endless")).to_have_count(0)
    page.get_by_role("radio", name="Text", exact=True).check()
    expect(page.get_by_role("button", name="Generate until stopped")).to_be_visible()
    live.pipe.go.set()
    wait_done(page, live)


def test_upscaling_tells_tiles_and_the_time_left(page: Page, live, monkeypatch):
    def slowly(images, model="x4plus", scale=4, *, progress=None):
        for tile in range(1, 7):
            progress(tile, 6)
            if tile == 3:
                live.pipe.go.wait(60)
        return images.repeat(scale, axis=-3).repeat(scale, axis=-2)

    monkeypatch.setattr(live.context.engine.worker, "_upscale", slowly)
    live.pipe.go.clear()
    page.get_by_role("radio", name="Upscale", exact=True).check()
    choose_source(page, paint("a waterfall", 3))
    page.locator("#generate").click()
    told = re.compile(r"^Tile 3 of 6 · .* left$")
    expect(page.locator(".progress-text")).to_have_text(told)
    live.pipe.go.set()
    wait_done(page, live)


def test_a_failed_job_leaves_no_empty_place(page: Page, live):
    page.get_by_label("Prompt", exact=True).fill("!value")
    for count in ("1", "4"):
        page.get_by_label("Pictures, exactly").fill(count)
        page.locator("#generate").click()
        expect(page.locator(".failure")).to_be_visible()
        expect(page.locator(".job-media")).to_have_count(0)


def test_a_server_that_is_gone_is_told_at_once(page: Page, live, provoked):
    provoked.append("ERR_CONNECTION_REFUSED")
    expect(page.locator(".top .state")).to_have_text("Ready")
    live.pipe.go.clear()
    ask(page, "a glacier", 20)
    expect(page.locator(".job[data-status=running]")).to_be_visible()
    page.route("**/api/v1/**", lambda route: route.abort("connectionrefused"))
    expect(page.locator(".top .state")).to_have_text("Offline, retrying…", timeout=6000)
    expect(page.get_by_text("The server does not answer.")).to_be_visible()
    expect(page.get_by_text("goes on")).to_have_count(0)
    expect(page.locator(".progress-text")).to_have_text("Progress unknown")
    page.unroute("**/api/v1/**")
    expect(page.locator(".top .state")).to_have_text("Ready")
    expect(page.locator(".banner")).to_have_count(0)
    live.pipe.go.set()
    wait_done(page, live)


def test_the_end_of_all_jobs_is_told_if_wanted(page: Page, live):
    page.evaluate(
        """() => {
          window.told = [];
          const real = AudioContext.prototype.createOscillator;
          AudioContext.prototype.createOscillator = function () {
            told.push("tone");
            return real.call(this);
          };
          window.Notification = class {
            static permission = "granted";
            static requestPermission = async () => "granted";
            constructor(title, options) { told.push(`${title}: ${options.body}`); }
          };
        }"""
    )
    page.get_by_label("Prompt", exact=True).fill("a lake")
    generate(page, live)
    assert page.evaluate("told") == []
    for sign, told in (("Play a sound", "tone"), ("Show a notification", "Finished: a lake")):
        page.get_by_role("button", name="Preferences").click()
        page.get_by_label("When all jobs are done").select_option(sign)
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.evaluate("told.length = 0")
        before = page.url
        page.locator("#generate").click()
        page.wait_for_url(lambda url, old=before: url != old)
        wait_done(page, live)
        page.wait_for_function("() => told.length > 0")
        assert set(page.evaluate("told")) == {told}

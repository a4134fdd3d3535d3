"""The native API: jobs from submission to pictures, as a client sees them."""

import base64
import inspect
import io
import json
import threading
import time

import httpx
import numpy as np
import pytest
from PIL import Image

from dg2_jax import Pipeline
from tests.serve.fake_slots import FakePicture
from tests.serve.fakes import FakePipeline

pytestmark = pytest.mark.usefixtures("each_database")


def png(size=(32, 24), color=(10, 200, 30), mode="RGB") -> str:
    out = io.BytesIO()
    Image.new(mode, size, color).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def pixels(server, image) -> np.ndarray:
    answer = server.client.get(image["url"])
    assert answer.status_code == 200
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def events_of(server, job_id, **options):
    """(id, name, data) of a job's stream to its end."""
    found = []
    with server.client.stream("GET", f"/api/v1/jobs/{job_id}/events", **options) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        entry = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line == "" and "event" in entry:
                found.append((int(entry["id"]), entry["event"], json.loads(entry["data"])))
                entry = {}
            elif name in ("id", "event", "data"):
                entry[name] = value
    return found


def test_a_job_makes_the_pictures_of_its_seeds(start):
    server = start(max_batch=1)
    server.pipe.go.clear()
    job = server.submit(prompt="a lake", negative_prompt="fog", num_images=3, seed=7)
    while server.client.get(f"/api/v1/jobs/{job['id']}").json()["status"] == "queued":
        time.sleep(0.01)
    behind = server.submit(prompt="another")
    assert behind["status"] == "queued"
    assert behind["queue_position"] == 1  # behind the third picture, for which no batch had room
    look = server.client.get(f"/api/v1/jobs/{job['id']}").json()
    assert (look["status"], look["images"], look["finished_at"]) == ("running", [], None)
    server.pipe.go.set()
    job = server.finished(job["id"])
    assert job["status"] == "done"
    assert [image["seed"] for image in job["images"]] == [7, 8, 9]
    direct = FakePipeline()("a lake", "fog", 3, seed=7)
    for image, expected in zip(job["images"], direct.images, strict=True):
        np.testing.assert_array_equal(pixels(server, image), expected)
        assert image["metadata"]["prompt"] == "a lake"
    assert job["progress"]["fraction"] == 1
    assert job["error"] is None


def test_a_drawn_seed_is_kept(server):
    job = server.finished(server.submit(prompt="x")["id"])
    assert job["images"][0]["seed"] == job["request"]["seed"]
    again = server.client.post("/api/v1/jobs", json=job["request"]).json()
    assert server.finished(again["id"])["images"][0]["sha256"] == job["images"][0]["sha256"]


@pytest.mark.parametrize(
    ("fields", "called"),
    [
        ({"kind": "img2img", "prompt": "x", "image": png(), "strength": 0.5}, {"strength": 0.5}),
        (
            {"kind": "inpaint", "prompt": "x", "image": png(), "mask": png(mode="L", color=255)},
            {"strength": 1.0},
        ),
        (
            {"kind": "inpaint", "prompt": "x", "image": png(), "outpaint": [0, 0, 16, 0]},
            {"outpaint": (0, 0, 16, 0)},
        ),
        (
            {
                "kind": "anagram",
                "anagram": [{"prompt": "a", "view": "identity"}, {"prompt": "b", "view": "rot180"}],
            },
            {"anagram": (("a", "identity"), ("b", "rot180"))},
        ),
        (
            {"kind": "txt2img", "prompt": "x", "solver": "ddim", "eta": 0.5, "upscale": 2},
            {"solver": "ddim", "eta": 0.5, "upscale": 2},
        ),
    ],
)
def test_every_kind_reaches_the_pipeline(server, fields, called):
    job = server.finished(server.submit(**fields)["id"])
    assert job["status"] == "done", job["error"]
    assert called.items() <= server.pipe.calls[-1].items()
    assert job["images"][0]["kind"] == fields["kind"]


def test_upscale_enlarges_a_result(server):
    made = server.finished(server.submit(prompt="x", seed=1)["id"])["images"][0]
    job = server.finished(server.submit(kind="upscale", image=made["id"], upscale=4)["id"])
    found = pixels(server, job["images"][0])
    np.testing.assert_array_equal(found[::4, ::4], pixels(server, made))


def test_events_tell_the_whole_story(start):
    server = start(step_seconds=0.02)
    job = server.submit(prompt="x", num_inference_steps=10, preview_every=3)
    events = events_of(server, job["id"])
    names = [name for _, name, _ in events]
    assert names[0] == "queued"
    assert names.index("started") < names.index("preview") < names.index("image")
    assert names[-1] == "done"
    assert events[-1][2]["images"][0]["url"]
    ids = [number for number, _, _ in events]
    assert ids == sorted(set(ids))
    shown = [data for _, name, data in events if name == "preview"]
    assert {data["step"] for data in shown} <= {3, 6, 9}
    uri = shown[0]["images"][0]["url"]
    small = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert small.size == (8, 8)
    steps = [data["step"] for _, name, data in events if name == "progress"]
    assert steps == sorted(steps)


def test_events_resume_after_an_id(start):
    server = start(step_seconds=0.02)
    job = server.submit(prompt="x", num_inference_steps=20)
    with server.client.stream("GET", f"/api/v1/jobs/{job['id']}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                last = int(line[4:])
            if line == "event: started":
                break
    events = events_of(server, job["id"], headers={"Last-Event-ID": str(last)})
    assert all(number > last for number, _, _ in events)
    names = [name for _, name, _ in events]
    assert "queued" not in names
    assert names[-1] == "done"
    again = events_of(server, job["id"], headers={"Last-Event-ID": str(events[-1][0])})
    assert [name for _, name, _ in again] == ["done"]


def test_previews_reach_the_reader_as_they_come(server):
    """The first preview is read while the pipeline waits for the reader before its last step."""
    server.pipe.go.clear()
    job = server.submit(prompt="x", num_inference_steps=40, preview_every=1)
    with server.client.stream("GET", f"/api/v1/jobs/{job['id']}/events") as answer:
        lines = answer.iter_lines()
        assert any(line == "event: started" for line in lines)
        server.pipe.step_seconds = 0.05
        server.pipe.go.set()
        assert any(line == "event: preview" for line in lines)
        server.pipe.go.clear()
        assert server.client.get(f"/api/v1/jobs/{job['id']}").json()["status"] == "running"
        server.pipe.step_seconds = 0
        server.pipe.go.set()
        assert any(line == "event: done" for line in lines)


def test_a_waiting_job_that_is_cancelled_never_runs(start):
    server = start(step_seconds=0.02)
    server.pipe.go.clear()
    first = server.submit(prompt="first", num_inference_steps=20)
    while server.client.get(f"/api/v1/jobs/{first['id']}").json()["status"] != "running":
        time.sleep(0.01)
    second = server.submit(prompt="second", num_inference_steps=19)
    assert second["queue_position"] == 0
    answer = server.client.delete(f"/api/v1/jobs/{second['id']}")
    assert answer.json()["status"] == "cancelled"
    server.pipe.go.set()
    assert server.finished(first["id"])["status"] == "done"
    assert [call["prompt"] for call in server.pipe.calls] == [["first"]]


def test_a_running_job_stops_within_a_step(start):
    server = start(step_seconds=0.05)
    job = server.submit(prompt="x", num_inference_steps=1000)
    while server.client.get(f"/api/v1/jobs/{job['id']}").json()["progress"]["step"] < 3:
        time.sleep(0.01)
    server.client.delete(f"/api/v1/jobs/{job['id']}")
    at_cancel = server.pipe.steps_run
    after = server.submit(prompt="y", num_inference_steps=1)
    assert server.finished(after["id"])["status"] == "done"
    assert server.pipe.steps_run - at_cancel <= 1 + 1
    assert events_of(server, job["id"])[-1][1] == "cancelled"


@pytest.mark.parametrize("batching", ["steps", "calls"])
def test_cancelling_one_of_a_batch_leaves_the_others(start, batching):
    server = start(batching=batching)
    server.pipe.go.clear()
    blocker = server.submit(prompt="b", num_inference_steps=2)
    jobs = [server.submit(prompt=f"p{i}", num_inference_steps=12, seed=i) for i in range(4)]
    server.pipe.go.set()
    server.pipe.step_seconds = 0.05
    server.finished(blocker["id"])
    while server.client.get(f"/api/v1/jobs/{jobs[1]['id']}").json()["status"] == "queued":
        time.sleep(0.01)
    server.client.delete(f"/api/v1/jobs/{jobs[1]['id']}")
    ended = [server.finished(job["id"]) for job in jobs]
    assert [job["status"] for job in ended] == ["done", "cancelled", "done", "done"]
    assert ended[1]["images"] == []
    assert len(server.pipe.calls) == (2 if batching == "calls" else 5)


def test_jobs_that_agree_are_computed_together_and_unchanged(start):
    server = start(step_seconds=0.02, batching="calls")
    server.pipe.go.clear()
    blocker = server.submit(prompt="b", num_inference_steps=7)
    jobs = [server.submit(prompt=f"p{i}", negative_prompt=f"n{i}", seed=100 + i) for i in range(8)]
    server.pipe.go.set()
    ended = [server.finished(job["id"]) for job in (blocker, *jobs)][1:]
    assert [len(call["prompt"]) for call in server.pipe.calls] == [1, 8]
    alone = FakePipeline()
    for i, job in enumerate(ended):
        expected = alone(f"p{i}", f"n{i}", seed=100 + i).images[0]
        np.testing.assert_array_equal(pixels(server, job["images"][0]), expected)


def test_jobs_of_any_settings_are_computed_together_and_unchanged(start):
    """A long one runs; others join it, and short ones leave before it."""
    server = start(step_seconds=0.01)
    server.pipe.go.clear()
    long = server.submit(prompt="long", num_inference_steps=60, seed=1)
    asked = [
        {"prompt": "few", "num_inference_steps": 4},
        {"prompt": "free", "guidance_scale": 1.0, "num_inference_steps": 9},
        {"prompt": "other", "solver": "heun", "num_images": 2, "num_inference_steps": 7},
        {"prompt": "wide", "width": 96, "height": 64, "num_inference_steps": 5},
    ]
    jobs = [server.submit(seed=10 + i, **fields) for i, fields in enumerate(asked)]
    server.pipe.go.set()
    ended = [server.finished(job["id"]) for job in jobs]
    alone = FakePipeline()
    for i, (fields, job) in enumerate(zip(asked, ended, strict=True)):
        expected = alone(seed=10 + i, **fields)
        for image, made in zip(job["images"], expected.images, strict=True):
            np.testing.assert_array_equal(pixels(server, image), made)
        told = job["images"][-1]["metadata"]
        same = json.loads(json.dumps(expected.metadata(-1)))
        assert {**told, **same, "model": "demo"} == told
    last = server.finished(long["id"])
    assert last["status"] == "done"
    assert all(job["finished_at"] < last["finished_at"] for job in ended)
    assert max(server.pipe.together) == 6


def test_jobs_that_cannot_share_run_between_the_others(start):
    server = start(step_seconds=0.01)
    server.pipe.go.clear()
    long = server.submit(prompt="long", num_inference_steps=100)
    pair = [{"prompt": "a", "view": "identity"}, {"prompt": "b", "view": "rot180"}]
    odd = [
        server.submit(kind="anagram", anagram=pair, num_inference_steps=3),
        server.submit(prompt="reuse", reuse_every=2, num_inference_steps=3),
        server.submit(prompt="!alone", num_images=2, num_inference_steps=3),
    ]
    server.pipe.go.set()
    ended = [server.finished(job["id"]) for job in (*odd, long)]
    assert [job["status"] for job in ended] == ["done"] * 4
    assert all(job["finished_at"] < ended[-1]["finished_at"] for job in ended[:-1])


def test_previews_show_all_pictures_of_a_job(start):
    server = start(step_seconds=0.01)
    job = server.submit(prompt="x", num_images=3, num_inference_steps=12, preview_every=4)
    shown = [data for _, name, data in events_of(server, job["id"]) if name == "preview"]
    assert {data["step"] for data in shown} <= {4, 8}
    assert [image["index"] for image in shown[-1]["images"]] == [0, 1, 2]


def test_batches_have_compiled_sizes(start):
    server = start(step_seconds=0.01, batching="calls")
    job = server.submit(prompt="b", num_images=13, seed=0)
    assert len(server.finished(job["id"])["images"]) == 13
    assert [len(call["prompt"]) for call in server.pipe.calls] == [8, 4, 1]


def test_clients_take_turns(start):
    server = start(step_seconds=0.02, max_batch=1)
    server.pipe.go.clear()
    server.submit(prompt="blocker", num_inference_steps=20)
    submit = [("greedy", 6), ("modest", 1)]
    ids = {}
    for client, count in submit:
        for i in range(count):
            answer = server.client.post(
                "/api/v1/jobs",
                json={"kind": "txt2img", "prompt": f"{client}{i}", "num_inference_steps": 5},
                headers={"X-Client-ID": client},
            )
            ids[client] = answer.json()["id"]
    server.pipe.go.set()
    for job_id in ids.values():
        server.finished(job_id)
    order = [call["prompt"][0] for call in server.pipe.calls]
    assert order[:3] in (["blocker", "greedy0", "modest0"], ["blocker", "modest0", "greedy0"])


def test_positions_count_down(start):
    server = start(step_seconds=0.02, max_batch=1)
    server.pipe.go.clear()
    for i in range(3):
        server.submit(prompt=str(i), num_inference_steps=5)
    last = server.submit(prompt="last", num_inference_steps=5)
    server.pipe.go.set()
    names = [(n, d.get("position")) for _, n, d in events_of(server, last["id"])]
    positions = [position for name, position in names if name in ("queued", "position")]
    assert positions[-1] == 0
    assert positions == sorted(positions, reverse=True)
    assert len(positions) >= 3


def test_full_queues_say_when_to_come_back(start):
    server = start(queue_limit=4, client_limit=2)
    server.pipe.go.clear()
    running = server.submit(prompt="running", num_inference_steps=100)
    while server.client.get(f"/api/v1/jobs/{running['id']}").json()["status"] == "queued":
        time.sleep(0.01)
    statuses = []
    for client in ("a", "a", "a", "b", "b", "c"):
        answer = server.client.post(
            "/api/v1/jobs", json={"kind": "txt2img"}, headers={"X-Client-ID": client}
        )
        statuses.append(answer.status_code)
        if answer.status_code in (429, 503):
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.json()["status"] == answer.status_code
    assert statuses == [202, 202, 429, 202, 202, 503]
    for job in server.client.get("/api/v1/jobs").json()["jobs"]:
        server.client.delete(f"/api/v1/jobs/{job['id']}")
    server.pipe.go.set()


def test_an_idempotency_key_makes_one_job(server):
    def post(prompt):
        return server.client.post(
            "/api/v1/jobs",
            json={"kind": "txt2img", "prompt": prompt},
            headers={"Idempotency-Key": "once"},
        )

    with_threads: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: with_threads.append(post("x"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in with_threads) == [200] * 5 + [202]
    assert len({answer.json()["id"] for answer in with_threads}) == 1
    assert post("y").status_code == 409


def test_history_pages_and_searches(server):
    for i in range(5):
        server.finished(server.submit(prompt=f"lake number {i}")["id"])
    server.finished(server.submit(prompt="100% snow_y")["id"])
    page = server.client.get("/api/v1/jobs", params={"limit": 4}).json()
    rest = server.client.get("/api/v1/jobs", params={"before": page["next"]}).json()
    prompts = [job["request"]["prompt"] for job in page["jobs"] + rest["jobs"]]
    assert prompts == ["100% snow_y", *(f"lake number {i}" for i in (4, 3, 2, 1, 0))]
    assert rest["next"] is None

    def search(text, where="jobs"):
        return len(server.client.get(f"/api/v1/{where}", params={"q": text}).json()[where])

    assert search("LAKE number 3") == 1
    assert search("%") == 1
    assert search("lake", "images") == 5
    assert search("nothing") == 0


def test_pictures_can_be_deleted_and_jobs_forgotten(server):
    job = server.finished(server.submit(prompt="x", num_images=2)["id"])
    first, second = (image["id"] for image in job["images"])
    assert server.client.delete(f"/api/v1/images/{first}").status_code == 204
    assert server.client.get(f"/api/v1/images/{first}.png").status_code == 404
    url = f"/api/v1/jobs/{job['id']}"
    assert [i["id"] for i in server.client.get(url).json()["images"]] == [second]
    assert server.client.delete(url, params={"forget": True}).status_code == 204
    assert server.client.get(url).status_code == 404
    assert server.client.get(f"/api/v1/images/{second}.png").status_code == 404
    assert server.client.get("/api/v1/images").json()["images"] == []


def test_pngs_carry_their_settings_and_restore_them(server):
    job = server.finished(server.submit(prompt="a, b: c", num_inference_steps=9, seed=5)["id"])
    data = server.client.get(job["images"][0]["url"]).content
    info = server.client.post("/api/v1/png-info", files={"file": data}).json()
    assert info["request"]["num_inference_steps"] == 9
    again = server.finished(server.client.post("/api/v1/jobs", json=info["request"]).json()["id"])
    assert again["images"][0]["sha256"] == job["images"][0]["sha256"]
    assert "Steps: 9" in info["parameters"]
    bare = server.finished(server.submit(prompt="x", embed_metadata=False)["id"])
    data = server.client.get(bare["images"][0]["url"]).content
    sent = base64.b64encode(data).decode()
    info = server.client.post("/api/v1/png-info", json={"image": sent}).json()
    assert (info["metadata"], info["parameters"], info["request"]) == (None, None, None)


def test_webp_and_download(server):
    image = server.finished(server.submit(prompt="x")["id"])["images"][0]
    answer = server.client.get(f"/api/v1/images/{image['id']}.webp", params={"download": True})
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP"
    assert answer.headers["content-disposition"].endswith('.webp"')


def test_prompt_matching_uses_the_bank(server):
    job = server.submit(prompt="lake dawn", prompt_matching="train")
    job = server.finished(job["id"])
    assert job["request"]["prompt"] == "a lake at dawn"
    assert job["matched_from"] == "lake dawn"
    assert job["images"][0]["prompt"] == "a lake at dawn"


@pytest.mark.parametrize("batching", ["steps", "calls"])
def test_failures_are_told_and_do_not_spread(start, batching):
    server = start(step_seconds=0.01, batching=batching)
    server.pipe.go.clear()
    blocker = server.submit(prompt="b", num_inference_steps=20)
    asked = {
        "fine": ("done", None),
        "!oom": ("done", None),  # fits alone
        "!oom1": ("failed", 503),
        "!value": ("failed", 422),
        "!crash": ("failed", 500),
        "also fine": ("done", None),
    }
    jobs = {prompt: server.submit(prompt=prompt, seed=1) for prompt in asked}
    server.pipe.go.set()
    server.finished(blocker["id"])
    for prompt, (status, code) in asked.items():
        job = server.finished(jobs[prompt]["id"])
        assert job["status"] == status, (prompt, job["error"])
        assert (job["error"] or {}).get("status") == code
    fine = server.finished(jobs["fine"]["id"])["images"][0]
    expected = FakePipeline()("fine", seed=1).images[0]
    np.testing.assert_array_equal(pixels(server, fine), expected)


def test_a_picture_that_cannot_be_finished_fails_alone(start, monkeypatch):
    result = FakePicture.result

    def fails(picture):
        if picture.prompt == "bad":
            raise ValueError("upscaler must be installed")
        return result(picture)

    monkeypatch.setattr(FakePicture, "result", fails)
    server = start()
    server.pipe.go.clear()
    jobs = [server.submit(prompt=prompt, num_images=2) for prompt in ("first", "bad", "last")]
    server.pipe.go.set()
    ended = [server.finished(job["id"]) for job in jobs]
    assert [job["status"] for job in ended] == ["done", "failed", "done"]
    assert (ended[1]["error"]["status"], ended[1]["images"]) == (422, [])
    assert "must be installed" in ended[1]["error"]["detail"]
    assert server.context.engine.status()["running"] == 0


def test_what_finds_no_memory_to_begin_is_tried_by_itself(start):
    """Beside others; where there are none, memory is simply too small."""
    server = start()
    server.pipe.go.clear()
    jobs = [server.submit(prompt=prompt, num_images=2) for prompt in ("others", "!full")]
    server.pipe.go.set()
    for job in jobs:
        ended = server.finished(job["id"])
        assert (ended["status"], len(ended["images"])) == ("done", 2)
    ended = server.finished(server.submit(prompt="!full")["id"])
    assert (ended["status"], ended["error"]["status"]) == ("failed", 503)


@pytest.mark.parametrize("batching", ["steps", "calls"])
def test_out_of_memory_makes_batches_smaller(start, batching):
    server = start(batching=batching)
    job = server.finished(server.submit(prompt="!oom", num_images=4, seed=3)["id"])
    assert job["status"] == "done"
    assert [image["seed"] for image in job["images"]] == [3, 4, 5, 6]


def test_the_fake_has_the_signature_of_the_real_pipeline():
    real, fake = (
        inspect.signature(pipeline.__call__).parameters for pipeline in (Pipeline, FakePipeline)
    )
    assert [(p.name, p.kind, p.default) for p in real.values()] == [
        (p.name, p.kind, p.default) for p in fake.values()
    ]

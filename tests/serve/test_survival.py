"""What survives: kills, restarts, crowds, slow readers, lost connections. RELIABILITY 9-11, 16-18.

The long forms are `python -m tests.serve.soak` and `python -m tests.serve.fuzz`.
"""

import hashlib
import signal
import socket
import time

import httpx
import psutil
import pytest

from dg2_jax.serve.schemas import stored_request
from dg2_jax.serve.server_settings import ServerSettings
from dg2_jax.serve.store import Job, Store
from tests.serve.crowd import crowd
from tests.serve.fakes import FakePipeline
from tests.serve.live import LiveServer, Process

pytestmark = pytest.mark.usefixtures("each_database")


def submit(client: httpx.Client, **fields) -> str:
    answer = client.post("/api/v1/jobs", json={"kind": "txt2img", **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


def statuses(server: Process) -> dict[str, str]:
    return {job["id"]: job["status"] for job in server.jobs()}


def test_kill_9_loses_nothing(tmp_path, each_database):
    server = Process(tmp_path, step_seconds=0.05, lease_seconds=2)
    running = submit(server.client, prompt="running", num_inference_steps=60)
    waiting = [submit(server.client, prompt=f"p{i}", seed=i, num_inference_steps=1)
               for i in range(50)]  # fmt: skip
    wait_for(lambda: statuses(server)[running] == "running")
    server.end()
    server = Process(tmp_path, lease_seconds=2)  # fast now
    wait_for(lambda: set(statuses(server).values()) == {"done"})
    jobs = {job["id"]: job for job in server.jobs()}
    assert set(jobs) == {running, *waiting}
    alone = FakePipeline(size=128)
    for i, job_id in enumerate(waiting[:5]):
        entry = jobs[job_id]["images"]
        assert len(entry) == 1
        pixels = alone(f"p{i}", seed=i, num_inference_steps=1).images[0]
        assert entry[0]["sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 51
    assert len(list((tmp_path / "pictures").rglob(".*"))) <= 1  # what the kill left half-written
    if each_database == "sqlite":
        with pytest.raises(AttributeError):  # prints no address
            Process(tmp_path)  # two servers on one folder would compute every job twice
    assert server.end(signal.SIGTERM) == 0


def test_a_deadly_job_is_tried_twice(tmp_path):
    """What processes leave that die in a job's midst, as the next ones find it."""
    store = Store(ServerSettings(data=tmp_path).database_url)
    for name in ("deadly", "innocent"):
        request = stored_request("txt2img", {"seed": 0, "of_another_version": 1})
        store.add(Job(name, "txt2img", "queued", "c", request, "", 1, time.time()))
    for found in ({"deadly", "innocent"}, {"deadly", "innocent"}, {"innocent"}):
        assert {job.id for job in store.recover()} == found
        store.start(["deadly"])
    job = store.get("deadly")
    assert job.status == "failed"
    assert "2 times" in job.error["detail"]
    innocent = store.get("innocent")
    assert (innocent.status, innocent.request.num_inference_steps) == ("queued", 20)
    store.close()


def test_sigterm_drains_and_keeps_the_rest(tmp_path):
    server = Process(tmp_path, step_seconds=0.02, max_batch=1)
    first = submit(server.client, prompt="first", num_inference_steps=30)
    second = submit(server.client, prompt="second", num_inference_steps=30)
    wait_for(lambda: statuses(server)[first] == "running")
    assert server.end(signal.SIGTERM) == 0
    store = Store(ServerSettings(data=tmp_path).database_url)
    assert store.get(first).status == "done"
    assert store.get(second).status == "queued"
    assert store.get(second).attempts == 0
    store.close()


@pytest.mark.parametrize("batching", ["steps", "calls"])
def test_a_batch_that_outlasts_the_drain_waits_for_the_next_start(start, tmp_path, batching):
    server = start(step_seconds=0.02, drain_seconds=0.1, batching=batching)
    job_id = server.submit(prompt="x", num_inference_steps=1000)["id"]
    wait_for(lambda: server.pipe.steps_run > 2)
    server.stop()
    job = server.context.store.get(job_id)
    assert (job.status, job.attempts) == ("queued", 0)


def test_finished_pictures_of_a_job_are_not_made_again(tmp_path):
    server = LiveServer(tmp_path, step_seconds=0.03, max_batch=2, drain_seconds=0)
    job_id = server.submit(prompt="x", num_images=6, seed=0, num_inference_steps=10)["id"]
    wait_for(lambda: len(server.client.get(f"/api/v1/jobs/{job_id}").json()["images"]) >= 2)
    server.stop()
    server = LiveServer(tmp_path)
    job = server.finished(job_id)
    assert [image["seed"] for image in job["images"]] == list(range(6))
    assert sum(len(call["seed"]) for call in server.pipe.calls) <= 4
    server.stop()


def test_a_crowd_gets_what_it_asked_for(tmp_path):
    server = Process(tmp_path, step_seconds=0.002, queue_limit=40)
    report = crowd(server.url, clients=80)
    assert report.wrong == 0
    assert report.lost == 0
    assert report.done + report.refused == 80
    assert report.done >= 20
    assert report.refused_without_retry_after == 0
    jobs = server.client.get("/api/v1/jobs", params={"limit": 200}).json()["jobs"]
    assert len(jobs) == report.done
    server.end(signal.SIGTERM)


def test_readers_that_never_read_cost_nothing(start):
    server = start(step_seconds=0.002)

    def p95(count: int = 20) -> float:
        times = []
        for i in range(count):
            begin = time.monotonic()
            server.finished(server.submit(prompt=f"p{i}", num_inference_steps=20)["id"])
            times.append(time.monotonic() - begin)
        return sorted(times)[int(0.95 * count) - 1]

    before = p95()
    long_job = server.submit(prompt="long", num_images=64, num_inference_steps=1000,
                             preview_every=1)  # fmt: skip
    readers = []
    for _ in range(20):
        reader = socket.create_connection(("127.0.0.1", server.port))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        path = f"/api/v1/jobs/{long_job['id']}/events"
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        readers.append(reader)
    wait_for(lambda: server.pipe.steps_run > 200)
    assert len(server.context.engine.channel(long_job["id"])._events) < 100
    server.client.delete(f"/api/v1/jobs/{long_job['id']}")
    after = p95()
    for reader in readers:
        reader.close()
    assert after < 1.5 * before + 0.05


@pytest.mark.timeout(120)
def test_dropped_connections_leave_nothing_behind(start):
    server = start(step_seconds=0.01)
    job = server.submit(prompt="x", num_images=64, num_inference_steps=1000)
    process = psutil.Process()

    def drop(count: int) -> None:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", server.port))
            path = f"/api/v1/jobs/{job['id']}/events"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            connection.recv(10)
            connection.close()

    drop(20)
    channel = server.context.engine.channel(job["id"])
    wait_for(lambda: not channel.watched)
    baseline = process.num_fds()
    drop(1000)
    wait_for(lambda: not channel.watched)
    wait_for(lambda: process.num_fds() <= baseline + 2)
    server.client.delete(f"/api/v1/jobs/{job['id']}")
    assert len(server.context.engine._hub) == 0


def test_a_model_that_cannot_be_loaded_is_told(tmp_path):
    from starlette.testclient import TestClient

    from dg2_jax.serve.app import create_app
    from dg2_jax.serve.server_settings import ServerSettings

    def load(_):
        raise FileNotFoundError("model must be one of demo, or a folder")

    app = create_app(ServerSettings(data=tmp_path, model="nothing"), load)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        wait_for(lambda: client.get("/api/v1/ready").json()["state"] == "failed")
        assert client.get("/api/v1/ready").status_code == 503
        health = client.get("/api/v1/health")
        assert (health.status_code, health.json()["ready"]) == (200, False)
        answer = client.post("/api/v1/jobs", json={"kind": "txt2img"})
        assert answer.status_code == 503
        assert "model must be one of" in answer.json()["detail"]


@pytest.mark.parametrize("batching", ["steps", "calls"])
def test_warm_up_is_visible_and_grows(start, monkeypatch, batching):
    monkeypatch.setattr("dg2_jax.serve.worker.PATIENCE_SECONDS", 0.05)
    server = start(warmup=True, max_batch=4, batching=batching)
    wait_for(lambda: server.client.get("/api/v1/ready").status_code == 200)
    wait_for(lambda: server.client.get("/api/v1/ready").json()["warmup"]["done"] == 3)
    if batching == "calls":
        assert [len(call["prompt"]) for call in server.pipe.calls] == [1, 2, 4]
    else:  # unguided, then guided
        assert list(server.pipe.together) == [1, 1, 2, 4]
    text = server.client.get("/api/v1/metrics").text
    assert "dg2_queue_jobs 0.0" in text


@pytest.mark.parametrize("batching", ["steps", "calls"])
def test_batch_sizes_that_do_not_fit_are_given_up(start, monkeypatch, batching):
    class Small(FakePipeline):
        def trouble(self, prompts, begins=False):
            if len(prompts) > 2 and not begins:
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
            super().trouble(prompts, begins)

    monkeypatch.setattr("dg2_jax.serve.worker.PATIENCE_SECONDS", 0.05)
    server = start(warmup=True, pipe=Small(), batching=batching)
    wait_for(lambda: server.client.get("/api/v1/ready").json()["warmup"]["total"] == 2)
    job = server.finished(server.submit(prompt="x", num_images=5)["id"])
    assert len(job["images"]) == 5


def test_bank_routes(server):
    post, get = server.client.post, server.client.get
    assert get("/api/v1/bank/categories").json()["categories"] == ["lakes", "mountains"]
    found = post("/api/v1/bank/match", json={"prompt": "lake dawn", "k": 2}).json()["matches"]
    assert found[0]["prompt"] == "a lake at dawn"
    random = get("/api/v1/bank/random", params={"category": "mountains", "seed": 1}).json()
    assert random["prompt"] == "a snowy summit"
    bad = get("/api/v1/bank/random", params={"category": "none"})
    assert bad.json()["errors"][0]["field"] == "category"
    new = {"prompt": "a pass", "category": "mountains"}
    added = post("/api/v1/bank/prompts", json=new)
    assert added.status_code == 201
    address = f"/api/v1/bank/prompts/{added.json()['id']}"
    assert [server.client.delete(address).status_code for _ in range(2)] == [204, 404]


def test_forms_get_what_they_need(server):
    offer = server.client.get("/api/v1/options").json()
    assert offer["models"][0]["default"]
    assert offer["models"][0]["sizes"][0] == [64, 64]
    assert server.client.get("/api/v1/weights").json()["default"] == "ema"
    assert server.client.get("/api/v1/upscalers").json()["upscalers"][0]["factors"] == [2, 4]
    schema = server.client.get("/api/v1/openapi.json").json()
    assert (
        "examples"
        in schema["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    )

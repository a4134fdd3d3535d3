"""What clients see of interruptions by others, and of a server that stops."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from dg2_jax.models.folder import folder_of
from tests.serve.live import Process
from tests.serve.test_survival import wait_for

ROOT = Path(__file__).parents[2]
A1111, OPENAI = "/sdapi/v1/txt2img", "/v1/images/generations"


class Asking(threading.Thread):
    """A request that waits for its picture; `answer` is there when it has ended."""

    def __init__(self, url, path, **body):
        super().__init__(daemon=True)
        self._request = url + path, {"prompt": "x", **body}
        self.headers: dict[str, str] = {}
        self.answer = None
        self.start()

    def run(self):
        path, body = self._request
        self.answer = httpx.post(path, json=body, headers=self.headers, timeout=60)


def test_interruptions_reach_the_own_interface_and_client_only(start):
    server = start(max_batch=1)
    post, get = server.client.post, server.client.get
    server.pipe.go.clear()
    theirs = Asking(server.url, OPENAI, num_inference_steps=5)
    native = server.submit(prompt="y", num_inference_steps=5)["id"]
    wait_for(lambda: server.context.engine.status()["open"] == 2)
    idle = get("/sdapi/v1/progress").json()
    assert (idle["progress"], idle["state"]["job"], idle["state"]["job_count"]) == (0, "", 0)
    for call in ("interrupt", "skip"):
        post(f"/sdapi/v1/{call}")
    assert server.context.engine.status()["open"] == 2

    own = Asking(server.url, A1111, steps=5)
    wait_for(lambda: server.context.engine.status()["open"] == 3)
    wait_for(lambda: get("/sdapi/v1/progress").json()["state"]["job_count"] == 1)
    other = {"X-Client-ID": "another"}
    assert get("/sdapi/v1/progress", headers=other).json()["state"]["job_count"] == 0
    post("/sdapi/v1/interrupt", headers=other)
    assert server.context.engine.status()["open"] == 3
    post("/sdapi/v1/interrupt")
    wait_for(lambda: server.context.engine.status()["open"] == 2)
    own.join(10)
    assert own.answer.status_code == 200
    server.pipe.go.set()
    theirs.join(10)
    assert theirs.answer.status_code == 200
    assert server.finished(native)["status"] == "done"


def shape(path, answer):
    """The parts of an error as the interface of a path words it, and its text."""
    if path.startswith("/sdapi"):
        assert set(answer.json()) == {"error", "detail", "body", "errors"}
        return answer.json()["detail"]
    if path.startswith("/v1"):
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        return answer.json()["error"]["message"]
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


@pytest.mark.timeout(90)
def test_sigterm_tells_who_waits_and_shows_in_ready(tmp_path):
    errors = tmp_path / "stderr"
    server = Process(tmp_path / "data", step_seconds=0.05, errors=errors, max_batch=1)
    running = Asking(server.url, A1111, steps=40)
    wait_for(lambda: [job["status"] for job in server.jobs()] == ["running"])
    waiting = {path: Asking(server.url, path) for path in (A1111, OPENAI)}
    stream = Asking(server.url, OPENAI, stream=True)
    kept = server.client.post("/api/v1/jobs", json={"kind": "txt2img", "prompt": "y"}).json()["id"]
    wait_for(lambda: len(server.jobs()) == 5)
    events = []
    reader = threading.Thread(
        target=lambda: events.append(httpx.get(f"{server.url}/api/v1/jobs/{kept}/events").text)
    )
    reader.start()
    time.sleep(0.2)

    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: server.client.get("/api/v1/ready").json()["state"] == "draining")
    told = server.client.get("/api/v1/ready")
    assert (told.status_code, told.json()["ready"]) == (503, False)
    assert server.client.get("/api/v1/health").status_code == 200
    for path, ask in waiting.items():
        ask.join(5)
        assert (ask.answer.status_code, int(ask.answer.headers["Retry-After"]) > 0) == (503, True)
        assert shape(path, ask.answer) == "the server is stopping"
    stream.join(5)
    assert '{"error": {"message": "the server is stopping"}}' in stream.answer.text
    for path in (A1111, OPENAI, "/api/v1/jobs"):
        refused = server.client.post(path, json={"kind": "txt2img", "prompt": "z"})
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        assert shape(path, refused) == "the server is stopping"
    running.join(30)
    assert running.answer.status_code == 200
    assert len(running.answer.json()["images"]) == 1
    reader.join(5)
    assert events
    assert "event: cancelled" not in events[0]
    assert server.end(signal.SIGTERM) == 0
    assert "Traceback" not in errors.read_text()

    server = Process(tmp_path / "data")
    wait_for(lambda: {j["id"]: j["status"] for j in server.jobs()}[kept] == "done")
    assert sorted(job["status"] for job in server.jobs()) == ["cancelled"] * 3 + ["done"] * 2
    assert server.end(signal.SIGTERM) == 0


@pytest.mark.timeout(60)
def test_who_outlasts_the_drain_is_told_too(tmp_path):
    errors = tmp_path / "stderr"
    server = Process(
        tmp_path / "data", step_seconds=0.05, errors=errors, drain_seconds=0.2, max_batch=1
    )
    asked = {path: Asking(server.url, path, steps=1000) for path in (A1111, OPENAI)}
    wait_for(lambda: len(server.jobs()) == 2)
    job_id = server.jobs()[0]["id"]
    with httpx.stream("GET", f"{server.url}/api/v1/jobs/{job_id}/events") as hanging:
        assert server.end(signal.SIGTERM) == 0
        hanging.read()
    for path, ask in asked.items():
        ask.join(5)
        assert ask.answer.status_code == 503
        assert "Retry-After" in ask.answer.headers
        assert shape(path, ask.answer) == "the server is stopping"
    assert "Traceback" not in errors.read_text()


def test_an_idle_server_shows_that_it_stops(tmp_path):
    server = Process(tmp_path)
    states = []

    def look():
        try:
            while True:
                states.append(httpx.get(f"{server.url}/api/v1/ready").json()["state"])
                time.sleep(0.02)
        except httpx.HTTPError:
            return

    looking = threading.Thread(target=look)
    looking.start()
    wait_for(lambda: "ready" in states)
    assert server.end(signal.SIGTERM) == 0
    looking.join(5)
    assert states[-1] == "draining"


def ended(data, *arguments, **environment):
    """The exit status of `python -m serve`, and its lines on standard error and output."""
    command = [sys.executable, "-m", "dg2_jax.serve", "--port=0", f"--data={data}", *arguments]
    env = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    told = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return told.returncode, told.stderr.splitlines(), told.stdout


@pytest.fixture
def damaged(tmp_path):
    """A copy of the embedded model, one byte of whose weights is another."""
    folder = tmp_path / "damaged"
    shutil.copytree(folder_of("demo"), folder)
    file = folder / "denoiser.ema.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    return folder


def unknown(tmp_path):
    folder = tmp_path / "unknown"
    folder.mkdir()
    config = json.loads((folder_of("demo") / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model": "perceptron"}))
    return folder


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("/no/such/folder", "/no/such/folder"),
        ("demo,/no/such/folder", "/no/such/folder"),
        (unknown, "model must be one of"),
        ("owner/name", "could not be fetched"),
    ],
)
def test_a_model_that_is_not_there_ends_the_server(tmp_path, model, words):
    model = model if isinstance(model, str) else model(tmp_path)
    status, (line,), _ = ended(tmp_path / "data", f"--model={model}", DG2_WARMUP="false")
    assert status == 2
    assert line.startswith("error: model: ")
    assert words in line
    assert line.endswith("name another with DG2_MODEL")


@pytest.mark.parametrize("warmup", ["true", "false"])
def test_damaged_weights_end_the_server_that_answers_already(tmp_path, damaged, warmup):
    status, (line,), said = ended(tmp_path / "data", f"--model={damaged}", DG2_WARMUP=warmup)
    assert status == 2
    assert "denoiser.ema.safetensors is damaged" in line
    assert "dg2_jax is at http://" in said


@pytest.mark.parametrize("folder", ["a file", "a file/data", "/proc/dg2_jax"])
def test_a_data_folder_that_cannot_be_written_is_one_line(tmp_path, folder):
    (tmp_path / "a file").write_text("")
    status, (line,), _ = ended(tmp_path / folder)
    assert status == 2
    assert line.startswith(f"error: data: {tmp_path / folder} cannot be written")
    assert line.endswith("name another with DG2_DATA")

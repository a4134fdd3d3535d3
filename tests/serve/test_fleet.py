"""Several processes on one PostgreSQL: what each sees of the others, and what outlives them."""

import collections
import shutil
import signal

import pytest

from tests.serve.fleet_client import all_done, all_jobs, check_all, ready, submit
from tests.serve.live import LiveServer, Process
from tests.serve.live_worker import WorkerProcess, begun, wait_for

LEASE = {"lease_seconds": 2}
FAST = {"num_inference_steps": 1}


@pytest.fixture
def fleet(postgresql, tmp_path):
    """Makes APIs and workers on one database and folder, which are ended afterwards."""
    url = postgresql.new_database()
    return Fleet(url, tmp_path)


class Fleet:
    """Processes that share a database."""

    def __init__(self, database, folder):
        self.database, self.folder = database, folder
        self._servers: list[LiveServer] = []
        self._processes: list = []

    def api(self, **settings) -> LiveServer:
        """One that computes nothing, in this process."""
        options = {"workers": 0, "database": self.database, **LEASE, **settings}
        self._servers.append(LiveServer(self.folder, **options))
        return self._servers[-1]

    def api_process(self) -> Process:
        options = {"workers": 0, "database": self.database, **LEASE}
        self._processes.append(Process(self.folder, **options))
        return self._processes[-1]

    def worker(self, step_seconds=0.0, **settings) -> WorkerProcess:
        options = {**LEASE, **settings}
        self._processes.append(WorkerProcess(self.folder, self.database, step_seconds, **options))
        return self._processes[-1]

    def end(self) -> None:
        for server in self._servers:
            server.stop()
        for process in self._processes:
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGCONT)
                process.end(signal.SIGKILL)

    @property
    def begun(self):
        return begun(self.folder)


@pytest.fixture(autouse=True)
def _end(fleet):
    yield
    fleet.end()


def test_an_api_without_a_model_knows_those_of_its_workers(fleet):
    api = fleet.api()
    assert ready(api.client)["state"] == "no worker"
    assert api.client.get("/api/v1/ready").status_code == 503
    asked = {"kind": "txt2img", "prompt": "x"}
    assert api.client.post("/api/v1/jobs", json=asked).status_code == 503
    fleet.worker()
    wait_for(lambda: ready(api.client)["ready"])
    (model, *_) = api.client.get("/api/v1/models").json()["models"]
    assert (model["name"], model["default"]) == ("demo", True)
    assert api.client.get("/api/v1/health").json()["device"]["platform"] == "cpu"
    wrong = api.client.post("/api/v1/jobs", json={**asked, "weights": "none"})
    assert wrong.status_code == 422
    assert "must be one of" in wrong.json()["detail"]
    wrong = api.client.post("/api/v1/jobs", json={**asked, "model": "another"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "model")
    assert api.finished(submit(api.client, prompt="x", **FAST))["status"] == "done"


def test_each_worker_takes_only_jobs_for_its_own_models(fleet, folder, tmp_path):
    api = fleet.api()
    pids = {}
    for name in ("one", "two"):
        place = tmp_path / "models" / name
        shutil.copytree(folder, place)
        pids[name] = fleet.worker(model=place).pid
    listed = "/api/v1/models"
    wait_for(lambda: ready(api.client)["ready"] and len(api.context.engine._alive) == 2)
    assert {"one", "two"} <= {model["name"] for model in api.client.get(listed).json()["models"]}
    for number in range(8):
        name = ("one", "two")[number % 2]
        submit(api.client, prompt=name, model=name, seed=number, **FAST)
    wait_for(lambda: all_done(api.client))
    makers = {(pid, what.split()[-1]) for pid, what in fleet.begun}
    assert makers == {(pids["one"], "one"), (pids["two"], "two")}
    wrong = {"kind": "txt2img", "prompt": "x", "model": "three"}
    assert api.client.post("/api/v1/jobs", json=wrong).status_code == 422


def test_events_of_a_job_that_another_process_took(fleet):
    one, two = fleet.api(), fleet.api()
    fleet.worker(step_seconds=0.05)
    wait_for(lambda: ready(two.client)["ready"] and ready(one.client)["ready"])
    job_id = submit(one.client, prompt="x", num_images=2, num_inference_steps=10, preview_every=1)
    names, last = [], None
    with two.client.stream("GET", f"/api/v1/jobs/{job_id}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            if line.startswith("id: "):
                last = line.removeprefix("id: ")
            if "image" in names:
                break
    assert names[:2] == ["queued", "started"] or names[0] == "queued"
    assert {"queued", "started", "progress", "preview", "image"} <= set(names)
    headers = {"Last-Event-ID": last}
    rest = one.client.get(f"/api/v1/jobs/{job_id}/events", headers=headers).text
    told = [line.removeprefix("event: ") for line in rest.splitlines() if "event: " in line]
    assert told[-1] == "done"
    assert "queued" not in told
    assert "started" not in told


def test_a_cancel_reaches_the_worker(fleet):
    api = fleet.api()
    fleet.worker(step_seconds=0.05, max_batch=1)
    wait_for(lambda: ready(api.client)["ready"])
    endless = submit(api.client, prompt="endless", num_inference_steps=1000)
    wait_for(lambda: all_jobs(api.client)[endless]["status"] == "running")
    following = submit(api.client, prompt="following", **FAST)
    assert api.client.delete(f"/api/v1/jobs/{endless}").json()["status"] == "cancelled"
    assert api.finished(following)["status"] == "done"


def test_a_worker_that_is_told_to_stop_gives_back(fleet):
    api = fleet.api()
    worker = fleet.worker(step_seconds=0.05, max_batch=1, drain_seconds=0.1, lease_seconds=60)
    wait_for(lambda: ready(api.client)["ready"])
    job_id = submit(api.client, prompt="x", num_inference_steps=100)
    wait_for(lambda: all_jobs(api.client)[job_id]["status"] == "running")
    assert worker.end(signal.SIGTERM) == 0
    assert all_jobs(api.client)[job_id]["status"] == "queued"
    wait_for(lambda: ready(api.client)["state"] == "no worker")
    fleet.worker()
    assert api.finished(job_id)["status"] == "done"


def test_a_worker_that_is_told_to_stop_finishes_what_it_can(fleet):
    api = fleet.api()
    worker = fleet.worker(step_seconds=0.02, max_batch=1)
    wait_for(lambda: ready(api.client)["ready"])
    job_id = submit(api.client, prompt="x", num_inference_steps=50)
    wait_for(lambda: all_jobs(api.client)[job_id]["status"] == "running")
    assert worker.end(signal.SIGTERM) == 0
    assert all_jobs(api.client)[job_id]["status"] == "done"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("victim", ["worker", "api", "postgresql"])
def test_a_kill_loses_nothing(fleet, postgresql, victim):
    """With 50 jobs waiting and some running; what runs is begun again only if its worker died."""
    api, other = fleet.api_process(), fleet.api_process()
    worker = fleet.worker(step_seconds=0.1, max_batch=2)
    wait_for(lambda: ready(other.client)["ready"] and ready(api.client)["ready"])
    jobs = [
        submit(api.client, prompt=f"p{number}", seed=number, num_inference_steps=5)
        for number in range(52)
    ]
    wait_for(lambda: len(fleet.begun) >= 4)
    fleet.worker(step_seconds=0.01)
    if victim == "worker":
        worker.end(signal.SIGKILL)
    elif victim == "api":
        api.end(signal.SIGKILL)
    else:
        postgresql.kill()
        postgresql.start()
    wait_for(lambda: all_done(other.client), 60)
    check_all(other.client, jobs)
    files = list((fleet.folder / "pictures").rglob("*.png"))
    assert len(files) == len(jobs)
    times = collections.Counter(what for _, what in fleet.begun)
    twice = [what for what, count in times.items() if count > 1]
    assert len(twice) <= (2 if victim == "worker" else 0)
    assert max(times.values()) <= 2


@pytest.mark.timeout(120)
def test_a_worker_that_was_stopped_for_long_overwrites_nothing(fleet):
    api = fleet.api()
    stopped = fleet.worker(step_seconds=0.1, max_batch=1)
    wait_for(lambda: ready(api.client)["ready"])
    job_id = submit(api.client, prompt="p0", seed=0, num_inference_steps=20)
    wait_for(lambda: fleet.begun)
    stopped.send(signal.SIGSTOP)
    fleet.worker()
    assert api.finished(job_id)["status"] == "done"
    (file,) = (fleet.folder / "pictures").rglob("*.png")
    before = file.stat()
    stopped.send(signal.SIGCONT)
    late = submit(api.client, prompt="p1", seed=1, num_inference_steps=20)
    api.finished(late)
    assert next(pid for pid, _ in fleet.begun) == stopped.pid
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert stopped.end(signal.SIGTERM) == 0  # it has seen that its picture was another's
    check_all(api.client, [job_id, late])


@pytest.mark.timeout(120)
def test_a_worker_that_was_stopped_while_it_wrote_hinders_nobody(fleet):
    api = fleet.api()
    stopped = fleet.worker(stops_in_write=True)
    wait_for(lambda: ready(api.client)["ready"])
    job_id = submit(api.client, prompt="p0", seed=0, **FAST)
    wait_for(lambda: stopped.is_stopped)
    other = fleet.worker()
    assert api.finished(job_id, 60)["status"] == "done"
    (file,) = (fleet.folder / "pictures").rglob("*.png")
    before = file.stat()
    assert other.end(signal.SIGTERM) == 0
    stopped.send(signal.SIGCONT)
    late = submit(api.client, prompt="p1", seed=1, **FAST)
    assert api.finished(late, 60)["status"] == "done"  # by the one that is awake again
    assert file.stat().st_ino == before.st_ino
    assert stopped.end(signal.SIGTERM) == 0
    check_all(api.client, [job_id, late])
    pids = {pid for pid, what in fleet.begun if what.endswith("p1")}
    assert pids == {stopped.pid}


@pytest.mark.timeout(120)
def test_two_workers_do_twice_the_work_of_one(fleet):
    """Pictures take equal times, one after another in each: the larger share is what counts."""
    api = fleet.api()
    fleet.worker(step_seconds=0.02, max_batch=1)
    fleet.worker(step_seconds=0.02, max_batch=1)
    wait_for(lambda: len(api.context.engine._alive) == 2)
    wait_for(lambda: ready(api.client)["ready"])
    jobs = [submit(api.client, prompt="x", num_inference_steps=10) for _ in range(40)]
    for job_id in jobs:
        api.finished(job_id, 60)
    shares = collections.Counter(pid for pid, _ in fleet.begun)
    assert sum(shares.values()) / max(shares.values()) >= 1.8

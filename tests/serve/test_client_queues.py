"""What clients do with their own waiting jobs: hold, order and cancel them; nobody else's."""

import time

import pytest

from tests.serve.test_survival import wait_for

pytestmark = pytest.mark.usefixtures("each_database")

ONE, TWO = ({"X-Client-ID": name} for name in ("one", "two"))


def submit(server, prompt, client=ONE) -> str:
    steps = 3 + len(prompt)  # not to be batched with others
    body = {"kind": "txt2img", "prompt": prompt, "num_inference_steps": steps}
    return server.client.post("/api/v1/jobs", json=body, headers=client).json()["id"]


def queue(server, client=ONE) -> dict:
    return server.client.get("/api/v1/queue", headers=client).json()


def ids(view) -> list[str]:
    return [job["id"] for job in view["jobs"]]


def pause(server, paused=True, client=ONE):
    return server.client.patch("/api/v1/queue", json={"paused": paused}, headers=client).json()


def order(server, jobs, client=ONE):
    return server.client.put("/api/v1/queue/order", json={"jobs": jobs}, headers=client)


def prompts_made(server) -> list[str]:
    return [call["prompt"][0] for call in server.pipe.calls]


@pytest.fixture
def held(start):
    """A server whose pipeline waits in a job of client one."""
    server = start()
    server.pipe.go.clear()
    submit(server, "x")
    wait_for(lambda: server.context.engine.status()["running"] == 1)
    return server


def test_the_queue_is_that_of_the_client_and_in_its_order(held):
    waiting = [submit(held, "p" * i) for i in (2, 3, 4)]
    other = submit(held, "other", TWO)
    view = queue(held)
    assert [job["status"] for job in view["jobs"]] == ["running", "queued", "queued", "queued"]
    assert ids(view)[1:] == waiting
    assert ids(queue(held, TWO)) == [other]
    assert queue(held, {"X-Client-ID": "nobody"}) == {"paused": False, "jobs": []}
    held.pipe.go.set()


def test_an_order_is_kept_over_a_restart(start):
    server = start(drain_seconds=0)
    pause(server)
    a, b, c, d = (submit(server, prompt) for prompt in ("a", "bb", "ccc", "dddd"))
    assert ids(order(server, [c, a]).json()) == [c, a, b, d]
    assert ids(order(server, [d, c, a, b]).json()) == [d, c, a, b]
    server.stop()
    server = start()
    late = submit(server, "eeeee")
    assert ids(queue(server)) == [d, c, a, b, late]
    pause(server, False)
    for job_id in (a, b, c, d, late):
        server.finished(job_id)
    assert prompts_made(server) == ["dddd", "ccc", "a", "bb", "eeeee"]


def test_a_job_that_does_not_wait_or_is_anothers_is_not_ordered(held):
    mine, theirs = submit(held, "mine"), submit(held, "theirs", TWO)
    running = ids(queue(held))[0]
    for wrong in (running, theirs, "nobody"):
        answer = order(held, [mine, wrong])
        assert answer.status_code == 409
        assert wrong in answer.json()["detail"]
    assert ids(queue(held, TWO)) == [theirs]
    held.pipe.go.set()


def test_a_paused_client_waits_and_others_go_on(start):
    server = start()
    assert pause(server)["paused"]
    mine, theirs = submit(server, "mine"), submit(server, "theirs", TWO)
    assert server.finished(theirs)["status"] == "done"
    assert [job["status"] for job in queue(server)["jobs"]] == ["queued"]
    assert not queue(server, TWO)["paused"]
    assert not pause(server, False)["paused"]
    assert server.finished(mine)["status"] == "done"
    assert prompts_made(server) == ["theirs", "mine"]


def test_a_pause_lasts_over_a_restart(start):
    server = start()
    pause(server)
    mine = submit(server, "mine")
    server.stop()
    server = start()
    other = submit(server, "other", TWO)
    server.finished(other)
    assert queue(server)["paused"]
    assert ids(queue(server)) == [mine]
    server.client.delete(f"/api/v1/jobs/{mine}", headers=ONE)
    assert ids(queue(server)) == []


def test_what_runs_is_finished_in_a_pause(held):
    running = ids(queue(held))[0]
    waiting = submit(held, "waiting")
    pause(held)
    held.pipe.go.set()
    assert held.finished(running)["status"] == "done"
    wait_for(lambda: held.context.engine.status()["running"] == 0)
    assert held.client.get(f"/api/v1/jobs/{waiting}").json()["status"] == "queued"


def test_clearing_cancels_the_clients_waiting_jobs_alone(held):
    waiting = [submit(held, "p" * i) for i in (2, 3)]
    theirs = submit(held, "theirs", TWO)
    cleared = held.client.delete("/api/v1/queue", headers=ONE).json()
    assert [job["status"] for job in cleared["jobs"]] == ["running"]
    held.pipe.go.set()
    statuses = [held.finished(job_id)["status"] for job_id in (*waiting, theirs, *ids(cleared))]
    assert statuses == ["cancelled", "cancelled", "done", "done"]


def test_an_empty_queue_costs_nothing_while_it_is_paused(start, monkeypatch, each_database):
    """The worker sleeps: it does not look again and again for jobs that may not be taken."""
    server = start()
    pause(server)
    submit(server, "mine")
    looks = []
    engine = server.context.engine
    if each_database == "postgresql":
        owner, name = engine.own._claims, "take"
    else:
        owner, name = engine._open.queue, "choose"
    look = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *asked: looks.append(1) or look(*asked))
    submit(server, "another")  # wakes it
    wait_for(lambda: looks)
    time.sleep(0.3)
    assert len(looks) < 20

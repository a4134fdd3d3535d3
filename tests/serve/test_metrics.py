"""What operators are told: in the text of Prometheus, on the dashboard, in the documentation."""

import json
import re
from pathlib import Path

import pytest

from tests.serve.live_worker import wait_for

DOCS = Path(__file__).parents[2] / "docs"
NAME = re.compile(r"dg2_[a-z_]+")


def told(server) -> dict[str, float]:
    """Values by the name with its labels."""
    lines = server.client.get("/api/v1/metrics").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


@pytest.mark.usefixtures("each_database")
def test_jobs_are_counted_by_model_and_state(start):
    server = start(max_batch=1)
    server.pipe.go.clear()
    jobs = [server.submit(prompt="x", num_inference_steps=2)["id"] for _ in range(3)]
    wait_for(lambda: told(server).get('dg2_jobs_running{model="demo"}') == 1)
    wait_for(lambda: told(server).get('dg2_jobs_waiting{model="demo"}') == 2)
    values = told(server)
    assert values["dg2_queue_jobs"] == values['dg2_jobs_waiting{model="demo"}'] == 2
    assert (values["dg2_slots"], values["dg2_slots_in_use"]) == (2, 2)
    assert values['dg2_model_loaded{model="demo"}'] == 1
    server.pipe.go.set()
    for job_id in jobs:
        server.finished(job_id)
    wait_for(lambda: told(server)["dg2_queue_jobs"] == 0)
    values = told(server)
    assert values['dg2_queue_seconds_count{model="demo"}'] == 3
    assert values["dg2_slots_in_use"] == 0
    assert values["dg2_images_total"] == 3


def test_what_the_dashboard_and_the_documentation_name_is_there(start, monkeypatch):
    monkeypatch.setattr("dg2_jax.serve.worker.PATIENCE_SECONDS", 0.05)
    server = start(warmup=True, max_batch=1)
    server.finished(server.submit(prompt="x", num_inference_steps=1)["id"])
    known = {re.sub(r"{.*", "", name) for name in told(server)}
    known |= {re.sub("_(bucket|count|sum)$", "", name) for name in known}
    panels = json.loads((DOCS / "grafana.json").read_text())["panels"]
    drawn = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in NAME.findall(target["expr"])
    }
    table = (DOCS / "fleet.md").read_text().partition("## What to watch")[2]
    assert len(drawn) >= 8
    shared = {"dg2_jobs_waiting", "dg2_jobs_running"}  # of every model that has any
    assert (drawn | set(NAME.findall(table))) - shared <= known

"""The server on Ray Serve: what Ray loses, its head included, is computed again from the database.

With a real Ray on loopback; skipped where it is not installed.
"""

import collections
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.serve.fleet_client import all_done, all_jobs, check_all, submit
from tests.serve.live_worker import begun, wait_for

pytest.importorskip("ray.serve")

from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from dg2_jax.serve import ray_app
from dg2_jax.serve.ray_app import Scale
from tests.serve.live_ray import RayProcess

JOBS = 50
MANIFEST = Path(__file__).parents[2] / "docs" / "kuberay.yaml"


def submit_all(client):
    steps = {"num_inference_steps": 5}
    return [submit(client, prompt=f"p{n}", seed=n, **steps) for n in range(JOBS)]


def context(told, target=3):
    return SimpleNamespace(aggregated_metrics=told, target_num_replicas=target)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"wanted": {"one": 2.1, "two": 2.2}}, 3),
        ({"wanted": {"one": 0.0}}, 0),  # Ray keeps to min_replicas
        ({"wanted": {}}, 3),
        ({}, 3),
        (None, 3),
    ],
)
def test_as_many_replicas_as_the_queue_is_worth(told, wanted):
    assert ray_app.replicas(context(told)) == (wanted, {})


def test_what_is_missing_or_wrong_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("DG2_DATABASE", "postgresql+psycopg://dg2@127.0.0.1/dg2")
    with pytest.raises(ValidationError, match="DG2_API_KEY"):
        ray_app.app(Scale())
    with pytest.raises(ValidationError, match="max_replica\n"):
        Scale(max_replica=2)
    monkeypatch.setenv("DG2_API_KEY", "long enough")
    with pytest.raises(ValidationError, match="max_replicas"):
        ray_app.app(Scale(min_replicas=2))
    monkeypatch.delenv("DG2_DATABASE")
    with pytest.raises(ValidationError, match="DG2_DATABASE"):
        ray_app.app(Scale())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("victim", ["replica", "head"])
def test_a_kill_on_ray_loses_nothing(postgresql, tmp_path, victim):
    """With 50 jobs, some of them running; and with the queue the replicas become more and fewer."""
    database = postgresql.new_database()
    scale = {"max_replicas": 2, "pictures_per_replica": 5}
    scale |= {"upscale_seconds": 0, "downscale_seconds": 0}
    server = RayProcess(tmp_path, database, step_seconds=0.1, **scale)
    try:
        wait_for(lambda: server.client.get("/api/v1/ready").status_code == 200, 60)
        jobs = submit_all(server.client)
        wait_for(lambda: len(begun(tmp_path)) >= 4, 60)
        killed = begun(tmp_path)[-1][0]
        assert not all_done(server.client)
        if victim == "replica":
            os.kill(killed, signal.SIGKILL)
        else:
            server.kill_head()
            assert 0 < len(begun(tmp_path)) < JOBS
            server = RayProcess(tmp_path, database, step_seconds=0.1, **scale)
        wait_for(lambda: set(all_jobs(server.client)) == set(jobs), 60)
        wait_for(lambda: all_done(server.client), 120)
        check_all(server.client, jobs)
        assert len(list((tmp_path / "pictures").rglob("*.png"))) == JOBS
        times = collections.Counter(what for _, what in begun(tmp_path))
        assert sum(times.values()) - JOBS <= 4  # what two workers had under way, two each
        assert max(times.values()) <= 2
        assert len({pid for pid, _ in begun(tmp_path)} - {killed}) >= 1
        if victim == "replica":
            wait_for(lambda: len(server.workers) == 1, 60)
    finally:
        server.stop()


def test_the_manifest_for_kubernetes_is_one_of_this_application():
    """Ray's schema knows its fields, and the application its arguments."""
    manifest = yaml.safe_load(MANIFEST.read_text())
    config = ServeDeploySchema.model_validate(yaml.safe_load(manifest["spec"]["serveConfigV2"]))
    (application,) = config.applications
    module, name = application.import_path.split(":")
    assert (module, getattr(ray_app, name)) == (ray_app.__name__, ray_app.app)
    most = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplicas"]
    assert Scale(**application.args).max_replicas == most

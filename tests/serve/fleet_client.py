"""What tests ask of several processes on one database, and what must hold in the end."""

import hashlib

import httpx

from tests.serve.fakes import FakePipeline
from tests.serve.live import PROCESS_SIZE


def submit(client: httpx.Client, **fields) -> str:
    answer = client.post("/api/v1/jobs", json={"kind": "txt2img", **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def all_jobs(client: httpx.Client) -> dict[str, dict]:
    page = client.get("/api/v1/jobs", params={"limit": 200}).json()
    return {job["id"]: job for job in page["jobs"]}


def all_done(client: httpx.Client) -> bool:
    return {job["status"] for job in all_jobs(client).values()} == {"done"}


def ready(client: httpx.Client) -> dict:
    return client.get("/api/v1/ready").json()


def check_all(client: httpx.Client, jobs: list[str]) -> None:
    """Every job is done and has its own picture, and no picture lies there twice."""
    found = all_jobs(client)
    assert set(found) == set(jobs)
    alone = FakePipeline(size=PROCESS_SIZE)
    for number, job_id in enumerate(jobs):
        (image,) = found[job_id]["images"]
        steps = found[job_id]["request"]["num_inference_steps"]
        pixels = alone(f"p{number}", seed=number, num_inference_steps=steps).images[0]
        assert image["sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()

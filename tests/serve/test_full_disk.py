"""A full disk: nothing is lost, everything is told, and all goes on by itself when there is room.

Once with a small file system of its own, where this may be mounted, and once with writes that fail
as those on a full disk do.
"""

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from dg2_jax.serve import disk
from dg2_jax.serve.disk import Disk
from dg2_jax.serve.files import FolderFiles
from dg2_jax.serve.records import Job
from dg2_jax.serve.schemas import stored_request
from dg2_jax.serve.store import Store
from tests.serve.test_jobs import events_of, png
from tests.serve.test_survival import wait_for


class SmallDisk:
    """A file system of 3 MB, filled by a file."""

    def __init__(self, folder):
        self.folder = folder
        self._filling = folder / "filling"

    def fill(self) -> None:
        with contextlib.suppress(OSError), self._filling.open("ab", buffering=0) as file:
            while file.write(bytes(1024)):
                pass
        assert shutil.disk_usage(self.folder).free == 0

    def free(self) -> None:
        self._filling.unlink()


class FailingWrites:
    """Every file and every row that is written fails; the free room that is told is a lie."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self._full = False
        write, write_row = FolderFiles.write, Store.transaction

        def fails_row(*_):
            cause = sqlite3.OperationalError("database or disk is full")
            raise OperationalError("COMMIT", None, cause)

        monkeypatch.setattr(
            FolderFiles, "write", lambda *a: (self.fails if self._full else write)(*a)
        )
        monkeypatch.setattr(
            Store, "transaction", lambda *a: (fails_row if self._full else write_row)(*a)
        )

    @staticmethod
    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(self) -> None:
        self._full = True

    def free(self) -> None:
        self._full = False


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=["tmpfs", "errors"])
def full(request, tmp_path, monkeypatch):
    monkeypatch.setattr("dg2_jax.serve.disk.LOOK_SECONDS", 0.05)
    if request.param == "tmpfs":
        return request.getfixturevalue("small")
    return FailingWrites(tmp_path / "data", monkeypatch)


def test_jobs_wait_for_room_and_go_on_by_themselves(full, start):
    server = start(data=full.folder, max_batch=2)
    server.pipe.go.clear()
    jobs = [server.submit(prompt=f"p{i}", seed=i, num_inference_steps=5 + i) for i in range(5)]
    wait_for(lambda: server.context.engine.status()["running"] >= 1)
    streams = {}

    def read(job_id):
        streams[job_id] = [name for _, name, _ in events_of(server, job_id)]

    readers = [threading.Thread(target=read, args=[job["id"]]) for job in jobs]
    for reader in readers:
        reader.start()
    full.fill()
    server.pipe.go.set()
    get, post = server.client.get, server.client.post

    wait_for(lambda: get("/api/v1/ready").json()["state"] == "no room")
    told = get("/api/v1/ready")
    assert (told.status_code, told.json()["ready"]) == (503, False)
    assert told.json()["detail"] == disk.FULL
    looks = [get(f"/api/v1/jobs/{job['id']}").json() for job in jobs]
    assert {look["status"] for look in looks} == {"queued"}
    assert all(look["notes"] == [disk.FULL] for look in looks)

    refused = post("/api/v1/jobs", json={"kind": "txt2img", "prompt": "x"})
    assert (refused.status_code, refused.json()["detail"]) == (507, disk.FULL)
    assert int(refused.headers["Retry-After"]) > 0
    upload = {"kind": "img2img", "prompt": "x", "image": png()}
    assert post("/api/v1/jobs", json=upload).status_code == 507
    theirs = post("/sdapi/v1/txt2img", json={"prompt": "x"})
    assert (theirs.status_code, theirs.json()["detail"]) == (507, disk.FULL)
    theirs = post("/v1/images/generations", json={"prompt": "x"})
    assert (theirs.status_code, theirs.json()["error"]["message"]) == (507, disk.FULL)
    assert get("/api/v1/health").status_code == 200
    calls = len(server.pipe.calls)
    time.sleep(0.3)
    assert len(server.pipe.calls) == calls  # nothing is computed that cannot be stored

    full.free()
    for i, job in enumerate(jobs):
        ended = server.finished(job["id"])
        assert (ended["status"], ended["notes"], ended["images"][0]["seed"]) == ("done", [], i)
        assert get(ended["images"][0]["url"]).status_code == 200
    for reader in readers:
        reader.join(10)
    assert all(names[-1] == "done" and "waiting" in names for names in streams.values())
    assert get("/api/v1/ready").json()["ready"]
    assert sum(len(call["seed"]) for call in server.pipe.calls) == 5  # none was made twice
    assert len(list((full.folder / "pictures").rglob("*.png"))) == 5
    assert not list((full.folder / "pictures").rglob(".*"))


def test_jobs_can_be_cancelled_and_deleted_on_a_full_disk(small, start):
    server = start(data=small.folder, max_batch=1)
    delete, get = server.client.delete, server.client.get
    done = server.finished(server.submit(prompt="done", num_images=2)["id"])
    server.pipe.go.clear()
    running = server.submit(prompt="running", num_inference_steps=3)["id"]
    wait_for(lambda: server.context.engine.status()["running"] == 1)
    waiting = [server.submit(prompt=f"p{i}")["id"] for i in range(20)]
    small.fill()
    server.pipe.go.set()
    wait_for(lambda: not get("/api/v1/ready").json()["ready"])
    for job_id in [running, *waiting]:
        answer = delete(f"/api/v1/jobs/{job_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert [name for _, name, _ in events_of(server, job_id)] == ["cancelled"]
        assert delete(f"/api/v1/jobs/{job_id}", params={"forget": True}).status_code == 204
    first, second = done["images"]
    assert delete(f"/api/v1/images/{first['id']}").status_code == 204
    assert get(second["url"]).status_code == 200
    address = f"/api/v1/jobs/{done['id']}"
    assert delete(address, params={"forget": True}).status_code == 204
    assert [get(where).status_code for where in (address, first["url"], second["url"])] == [404] * 3
    small.free()
    wait_for(lambda: get("/api/v1/ready").json()["ready"])
    assert server.finished(server.submit(prompt="again")["id"])["status"] == "done"
    assert len(list((small.folder / "pictures").rglob("*.png"))) == 1


def test_a_start_on_a_full_disk_waits_and_keeps_the_queue(full, start):
    first = start(data=full.folder, drain_seconds=0)
    first.pipe.go.clear()
    jobs = [first.submit(prompt=f"p{i}", num_inference_steps=1)["id"] for i in range(3)]
    wait_for(lambda: first.context.engine.status()["running"] >= 1)
    stopping = threading.Thread(target=first.stop)
    stopping.start()
    wait_for(lambda: first.context.engine.stopping)  # from now on nothing is finished
    first.pipe.go.set()
    stopping.join(20)
    full.fill()
    second = start(data=full.folder)
    wait_for(lambda: second.client.get("/api/v1/ready").json()["state"] == "no room")
    assert second.client.get(f"/api/v1/jobs/{jobs[-1]}").json()["status"] == "queued"
    full.free()
    assert [second.finished(job_id)["status"] for job_id in jobs] == ["done"] * 3


def test_a_start_without_any_room_says_so(small):
    Store.at(small.folder).close()
    small.fill()
    command = [sys.executable, "-m", "serve", f"--data={small.folder}", "--port=0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == f"error: data: {disk.FULL}: {small.folder}"
    assert "Traceback" not in ended.stderr


def test_clients_that_wait_for_a_picture_are_told(full, start):
    server = start(data=full.folder, step_seconds=0.02)
    calls = {
        "/sdapi/v1/txt2img": {"prompt": "x", "steps": 20},
        "/v1/images/generations": {"prompt": "y", "num_inference_steps": 20},
    }
    for path, body in calls.items():
        server.pipe.go.clear()
        answers = []
        ask = threading.Thread(
            target=lambda p=path, b=body, found=answers: found.append(server.client.post(p, json=b))
        )
        ask.start()
        wait_for(lambda: server.context.engine.status()["running"] == 1)
        full.fill()
        server.pipe.go.set()
        ask.join(10)
        assert (answers[0].status_code, "Retry-After" in answers[0].headers) == (507, True)
        full.free()
        wait_for(lambda: server.client.get("/api/v1/ready").json()["ready"])


@pytest.mark.parametrize("what", ["file", "row"])
def test_a_folder_that_cannot_be_written_is_told_and_costs_no_job(start, monkeypatch, what):
    monkeypatch.setattr("dg2_jax.serve.disk.LOOK_SECONDS", 0.05)
    server = start()
    server.pipe.go.clear()
    job = server.submit(prompt="x", num_inference_steps=2)
    wait_for(lambda: server.context.engine.status()["running"] == 1)

    def fails(*_):
        if what == "file":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("database is locked"))

    with monkeypatch.context() as broken:
        broken.setattr(
            *(FolderFiles, "write", fails) if what == "file" else (Store, "transaction", fails)
        )
        server.pipe.go.set()
        wait_for(lambda: server.client.get("/api/v1/ready").json()["detail"] == disk.BROKEN)
        look = server.client.get(f"/api/v1/jobs/{job['id']}").json()
        assert (look["status"], look["notes"]) == ("queued", [disk.BROKEN])
        refused = server.client.post("/api/v1/jobs", json={"kind": "txt2img"})
        assert (refused.status_code, refused.json()["detail"]) == (507, disk.BROKEN)
    assert server.finished(job["id"])["status"] == "done"
    assert server.client.get("/api/v1/ready").json()["ready"]


def test_the_prompt_bank_keeps_what_was_stored(server, monkeypatch):
    bank = server.context.bank()
    monkeypatch.setattr(bank, "save", FailingWrites.fails)
    new = {"prompt": "a pass", "category": "mountains"}
    answer = server.client.post("/api/v1/bank/prompts", json=new)
    assert (answer.status_code, answer.json()["detail"]) == (507, disk.FULL)
    assert "a pass" not in server.client.get("/api/v1/bank/prompts").text


def test_what_says_that_a_disk_is_full():
    full = [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        OperationalError("x", None, sqlite3.OperationalError("database or disk is full")),
        OperationalError("x", None, Exception("could not extend file: No space left on device")),
    ]
    other = [
        OSError(errno.EACCES, "x"),
        ValueError("database or disk is full"),
        OperationalError("x", None, sqlite3.OperationalError("database is locked")),
    ]
    assert all(map(disk.is_full, full))
    assert not any(map(disk.is_full, other))


def test_a_real_database_that_cannot_grow_is_a_full_disk(tmp_path):
    store = Store.at(tmp_path)
    with store._engine.connect() as connection:
        pages = connection.scalar(sa.text("PRAGMA page_count"))
        connection.execute(sa.text(f"PRAGMA max_page_count={pages}"))
    request = stored_request("txt2img", {"prompt": "x" * 100_000})
    with pytest.raises(OperationalError) as caught:
        store.add(Job("a", "txt2img", "queued", "c", request, "", 1, 0.0))
    assert disk.is_full(caught.value)
    store.close()


def test_the_reserve_is_used_once_and_set_aside_again(tmp_path):
    room = Disk(tmp_path)
    reserve = tmp_path / "reserve"
    assert reserve.stat().st_size == disk.RESERVE_BYTES
    seen = []

    def action():
        seen.append(reserve.exists())
        if reserve.exists():
            raise OSError(errno.ENOSPC, "x")
        return "done"

    assert room.insist(action) == "done"
    assert seen == [True, False]
    assert reserve.exists()


def test_what_a_kill_left_half_written_is_removed_later(tmp_path):
    files = FolderFiles(tmp_path)
    files.write("a_000", b"whole")
    old, new = (tmp_path / "pictures" / "00" / f".a_00{i}.png.x" for i in range(2))
    for left in (old, new):
        left.write_bytes(b"ha")
    os.utime(old, (0, 0))
    assert FolderFiles(tmp_path).read("a_000") == b"whole"
    assert (old.exists(), new.exists()) == (False, True)

"""Who takes which picture of a queue that several processes share, and what becomes of it."""

import itertools
import random
import threading
import time

import pytest
import sqlalchemy as sa

from dg2_jax.serve import database, disk
from dg2_jax.serve.fair_queue import FairQueue, Waiting
from dg2_jax.serve.files import FolderFiles
from dg2_jax.serve.fleet import task_rows as rows
from dg2_jax.serve.fleet.claims import Claims, expire
from dg2_jax.serve.fleet.tasks import Tasks
from dg2_jax.serve.records import Image, Job
from dg2_jax.serve.schemas import stored_request
from dg2_jax.serve.store import Store
from dg2_jax.serve.tables import TASKS

MODELS = ["demo"]
LIMITS = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")
_numbers = itertools.count()


@pytest.fixture
def store(postgresql):
    store = Store(postgresql.new_database())
    yield store
    store.close()


def add(store, client="c", num_images=1, **fields):
    job_id = f"job{next(_numbers):06d}"
    request = stored_request("txt2img", {"seed": 0, "model": "demo", **fields})
    job = Job(job_id, "txt2img", "queued", client, request, "", num_images, time.time())
    Tasks(store).add(job, lambda *_: None)
    return job_id


def claims_of(store, name, lease_seconds=60.0):
    return Claims(store, name, lease_seconds)


def take_all(claims, sizes=(1,), room=True):
    taken = []
    while (batch := claims.take(MODELS, sizes, room)) is not None:
        taken.append([(claim.job_id, claim.picture) for claim in batch.claims])
    return taken


def image_of(claim):
    image_id = f"{claim.job_id}_{claim.picture:03d}"
    return Image(image_id, claim.job_id, claim.picture, "txt2img", 0, "", "", 8, 8, "", {}, 0.0)


def deliver(claims, claim):
    """What is stored of a picture, and what is written."""
    written = []
    stored = claims.store_images(
        [claim], [(image_of(claim), b"png")], {}, lambda image_id, *_: written.append(image_id)
    )
    return [image.id for image in stored], written


def test_clients_take_turns_as_in_one_process(store):
    queue = FairQueue()
    for client, count in (("a", 5), ("b", 2), ("c", 1), ("a", 2), ("b", 3)):
        job_id = add(store, client, count)
        queue.push(Waiting(job_id, client, job_id, list(range(count)), shares=True))
    expected = []
    while batch := queue.take((1,)):
        expected.append([(job.job_id, index) for job, indices in batch for index in indices])
    assert take_all(claims_of(store, "w")) == expected


def test_who_comes_later_waits_for_one_picture_of_the_other(store):
    many = add(store, "many", 50)
    claims = claims_of(store, "w")
    for _ in range(20):
        claims.take(MODELS, (1,), True)
    few = add(store, "few", 2)
    following = [batch[0][0] for batch in take_all(claims)[:4]]
    assert following.count(few) == following.count(many) == 2


def test_who_cancels_keeps_no_late_turn(store):
    claims = claims_of(store, "w")
    add(store, "other", 50)
    big = add(store, "mine", 50)
    small = add(store, "mine", 1)
    Tasks(store).end(big, "cancelled")
    assert small in [batch[0][0] for batch in take_all(claims)[:2]]


def test_many_workers_never_take_the_same(store):
    for number in range(40):
        add(store, f"client{number % 5}", 3)
    taken = []
    threads = [
        threading.Thread(target=lambda n=n: taken.extend(take_all(claims_of(store, f"w{n}"))))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [batch[0] for batch in taken]
    assert len(keys) == len(set(keys)) == 120


def test_batches_are_of_equal_settings_and_a_size(store):
    first = [add(store, num_inference_steps=4) for _ in range(3)]
    other = add(store, num_inference_steps=5)
    assert take_all(claims_of(store, "w"), (1, 2, 4), room=None) == [
        [(first[0], 0), (first[1], 0)],
        [(first[2], 0)],
        [(other, 0)],
    ]


def test_what_does_not_fit_is_not_taken(store):
    claims = claims_of(store, "w")
    assert claims.take(MODELS, (1,), True) is None
    job_id = add(store)
    assert claims.take(MODELS, (1,), False).claims == []
    assert claims.take(["another"], (1,), True) is None
    Tasks(store).pause("c", True)
    assert claims.take(MODELS, (1,), True) is None
    Tasks(store).pause("c", False)
    assert take_all(claims) == [[(job_id, 0)]]


def test_a_job_is_done_with_its_last_picture(store):
    job_id = add(store, num_images=2)
    claims = claims_of(store, "w")
    one, two = (claims.take(MODELS, (1,), True).claims[0] for _ in range(2))
    assert deliver(claims, two) == ([f"{job_id}_001"], [f"{job_id}_001"])
    assert store.get(job_id).status == "running"
    assert deliver(claims, one)[0] == [f"{job_id}_000"]
    job = store.get(job_id)
    assert (job.status, [image.index for image in job.images]) == ("done", [0, 1])


def test_a_late_result_changes_nothing(store):
    job_id = add(store)
    stopped, other = claims_of(store, "stopped", 0.1), claims_of(store, "other")
    (late,) = stopped.take(MODELS, (1,), True).claims
    time.sleep(0.2)
    expire(store)
    assert store.get(job_id).status == "queued"
    (claim,) = other.take(MODELS, (1,), True).claims
    assert deliver(stopped, late) == ([], [])
    assert store.get(job_id).status == "running"
    assert deliver(other, claim)[0] == [f"{job_id}_000"]
    assert deliver(stopped, late) == ([], [])
    assert [image.id for image in store.get(job_id).images] == [f"{job_id}_000"]


def test_who_is_stopped_while_it_writes_keeps_no_lock(postgresql, tmp_path):
    """PostgreSQL ends its transaction, so that another goes on before the lease could lapse."""
    url = postgresql.new_database()
    store, own = Store(url), Store(url, lease_seconds=1)
    job_id = add(store)
    stopped, other = claims_of(own, "stopped", 0.1), claims_of(store, "other")
    (late,) = stopped.take(MODELS, (1,), True).claims
    files, begun, woken = FolderFiles(tmp_path), threading.Event(), threading.Event()
    errors = []

    def write(image_id, png, check):
        begun.set()
        woken.wait()
        files.write(image_id, png, check)

    def deliver_late():
        try:
            stopped.store_images([late], [(image_of(late), b"late")], {}, write)
        except disk.ERRORS as error:
            errors.append(error)

    thread = threading.Thread(target=deliver_late)
    thread.start()
    begun.wait()
    expire(store)
    assert other.take(MODELS, (1,), True) is None  # its row is locked
    while (batch := other.take(MODELS, (1,), True)) is None:
        expire(store)
    images = [(image_of(batch.claims[0]), b"newer")]
    assert len(other.store_images(batch.claims, images, {}, files.write)) == 1
    woken.set()
    thread.join()
    assert len(errors) == 1
    assert files.read(f"{job_id}_000") == b"newer"
    assert deliver(stopped, late) == ([], [])
    own.close()
    store.close()


def test_what_another_has_written_since_the_last_look_stays(tmp_path):
    """Who is stopped between its look and the file's place looks again."""
    files, looks = FolderFiles(tmp_path), []

    def look():
        looks.append(None)
        if len(looks) > 1:
            raise OSError("the lock is lost")
        FolderFiles(tmp_path).write("a_000", b"newer")

    with pytest.raises(OSError, match="lock is lost"):
        files.write("a_000", b"late", look)
    assert files.read("a_000") == b"newer"
    files.write("a_000", b"newest")
    assert files.read("a_000") == b"newest"
    assert len(list((tmp_path / "pictures").rglob("*"))) == 2  # a folder and its file


def test_what_waits_for_a_lock_waits_for_less_than_a_lease(store):
    """And says so with an error that means: later."""
    with store.transaction() as connection:
        query = sa.text("SELECT name, setting FROM pg_settings WHERE unit = 'ms'")
        told = dict(connection.execute(query).all())
        seconds = [int(told[name]) / 1000 for name in LIMITS]
        assert seconds == sorted(seconds)  # who holds a lock loses it before others give up
        assert 0 < seconds[0] < seconds[-1] < database.LEASE_SECONDS
    add(store)
    (claim,) = claims_of(store, "w").take(MODELS, (1,), True).claims
    with store.transaction() as holder, store.transaction() as connection:
        rows.lock(holder, TASKS.c.job_id == claim.job_id)
        connection.execute(sa.text("SET LOCAL lock_timeout = 1"))
        with pytest.raises(disk.ERRORS):
            rows.lock(connection, TASKS.c.job_id == claim.job_id)
        connection.rollback()


def test_leases_that_are_renewed_do_not_lapse(store):
    add(store)
    claims = claims_of(store, "w", 0.5)
    taken = claims.take(MODELS, (1,), True).claims
    for _ in range(4):
        time.sleep(0.2)
        assert claims.renew() == set(taken)
        expire(store)
    assert claims.take(MODELS, (1,), True) is None


def test_two_lapsed_leases_fail_a_job_and_no_other(store):
    """What its worker dies of is computed alone the second time, so others get away."""
    deadly, innocent = add(store), add(store)
    claims = claims_of(store, "w", 0.1)
    taken = [claims.take(MODELS, (1,), True) for _ in range(2)]
    assert all(batch.shares for batch in taken)
    time.sleep(0.2)
    expire(store)
    again = claims.take(MODELS, (1, 2), True)
    assert ([claim.job_id for claim in again.claims], again.shares) == ([deadly], False)
    time.sleep(0.2)
    expire(store)
    job = store.get(deadly)
    assert (job.status, job.attempts) == ("failed", 2)
    assert "2 times" in job.error["detail"]
    (claim,) = claims.take(MODELS, (1, 2), True).claims
    assert deliver(claims, claim)[0] == [f"{innocent}_000"]


def test_what_is_given_back_is_no_attempt_and_comes_first(store):
    first, _ = add(store), add(store)
    claims = claims_of(store, "w")
    for _ in range(3):
        batch = claims.take(MODELS, (1,), True)
        assert [claim.job_id for claim in batch.claims] == [first]
        assert store.get(first).attempts == 1
        claims.give_back(batch.claims)
        assert (store.get(first).status, store.get(first).attempts) == ("queued", 0)


def test_a_cancelled_job_is_neither_taken_nor_stored(store):
    waits, runs = add(store), add(store)
    claims = claims_of(store, "w")
    Tasks(store).end(waits, "cancelled")
    (claim,) = claims.take(MODELS, (1,), True).claims
    assert claim.job_id == runs
    assert Tasks(store).end(runs, "cancelled")
    assert not Tasks(store).end(runs, "cancelled")
    assert deliver(claims, claim) == ([], [])
    assert claims.take(MODELS, (1,), True) is None


def test_a_file_that_cannot_be_written_leaves_the_claim(store):
    job_id = add(store)
    claims = claims_of(store, "w")
    (claim,) = claims.take(MODELS, (1,), True).claims

    def fail(*_):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        claims.store_images([claim], [(image_of(claim), b"")], {}, fail)
    assert claims.renew() == {claim}
    assert deliver(claims, claim)[0] == [f"{job_id}_000"]


def test_jobs_of_an_earlier_release_are_adopted_once(store):
    request = stored_request("txt2img", {"seed": 0, "model": "demo"})
    store.add(Job("old", "txt2img", "running", "c", request, "", 2, 0.0, attempts=1))
    for _ in range(2):
        Tasks(store).adopt()
    assert (store.get("old").status, store.get("old").attempts) == ("queued", 0)
    assert take_all(claims_of(store, "w")) == [[("old", 0)], [("old", 1)]]


def test_all_at_once_never_wait_for_each_other_in_a_circle(store):
    """Claims, results, failures, cancels, orders, pauses and lapses, from threads that race."""
    jobs = [add(store, f"client{number % 3}", 4) for number in range(45)]
    tasks = Tasks(store)
    wrong, over = [], threading.Event()

    def work(name):
        draw = random.Random(name)
        claims = claims_of(store, name, 0.2)
        while any(count.total() for count in tasks.counts().values()):
            batch = claims.take(MODELS, draw.choice([(1,), (1, 2, 4)]), None)
            if batch is None:  # all are taken, or held
                continue
            fate = draw.random()
            if fate < 0.1:
                claims.give_back(batch.claims)
            elif fate < 0.15:
                claims.fail(batch.claims, {"status": 500})
            elif fate > 0.2:  # else nothing: the lease lapses
                images = [(image_of(claim), b"") for claim in batch.claims]
                claims.store_images(batch.claims, images, {}, lambda *_: None)
            claims.tell({(batch.claims[0].job_id, "waiting"): {"reason": name}})
            claims.renew() if fate > 0.2 else None

    def disturb(name):
        draw = random.Random(name)
        while not over.is_set():
            client = f"client{draw.randrange(3)}"
            tasks.end(draw.choice(jobs[:10]), "cancelled")
            tasks.pause(client, True)
            tasks.pause(client, False)
            tasks.arrange(client, draw.sample(jobs[10::3], 5))
            expire(store)

    def noting(run, name):
        try:
            run(name)
        except Exception as error:
            wrong.append(error)

    workers = [threading.Thread(target=noting, args=(work, f"w{i}")) for i in range(4)]
    others = [threading.Thread(target=noting, args=(disturb, f"d{i}")) for i in range(3)]
    for thread in (*workers, *others):
        thread.start()
    for thread in workers:
        thread.join()
    over.set()
    for thread in others:
        thread.join()
    assert wrong == []
    for job_id in jobs:
        job = store.get(job_id)
        assert job.status in ("done", "failed", "cancelled")
        assert job.status != "done" or [image.index for image in job.images] == [0, 1, 2, 3]

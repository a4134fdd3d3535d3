"""What the queue promises for any sequence of jobs."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dg2_jax.serve.fair_queue import FairQueue, Waiting

SIZES = st.sampled_from([(1,), (1, 2), (1, 2, 4), (1, 2, 4, 8)])
JOBS = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # client
        st.sampled_from("xy"),  # key
        st.integers(1, 9),  # pictures
        st.sampled_from([1 << 30, 1, 2]),  # limit
    ),
    min_size=1,
    max_size=12,
)


def filled(jobs):
    queue = FairQueue()
    for i, (client, key, count, limit) in enumerate(jobs):
        queue.push(Waiting(str(i), client, key, list(range(count)), limit))
    return queue


def drained(queue, sizes):
    while batch := queue.take(sizes):
        yield batch


@given(jobs=JOBS, sizes=SIZES)
def test_every_picture_is_taken_once_in_batches_of_allowed_sizes(jobs, sizes):
    taken = Counter()
    for batch in drained(filled(jobs), sizes):
        assert sum(len(indices) for _, indices in batch) in sizes
        assert len({(job.key, job.limit) for job, _ in batch}) == 1
        assert sum(len(indices) for _, indices in batch) <= batch[0][0].limit
        taken.update((job.job_id, index) for job, indices in batch for index in indices)
    everything = {(str(i), k) for i, job in enumerate(jobs) for k in range(job[2])}
    assert set(taken) == everything
    assert set(taken.values()) == {1}


@given(jobs=JOBS, sizes=SIZES)
def test_clients_take_turns(jobs, sizes):
    """A client with waiting jobs leads a batch at least once in as many batches as clients wait."""
    queue = filled(jobs)
    clients = {job.client for job in queue}
    waited = dict.fromkeys(clients, 0)
    while len(queue):
        waiting = {job.client for job in queue}
        leader = next(iter(queue)).client
        queue.take(sizes)
        for client in waiting - {leader}:
            waited[client] += 1
            assert waited[client] < len(clients)
        waited[leader] = 0


@given(jobs=JOBS, sizes=SIZES)
def test_a_clients_equal_jobs_end_in_their_order(jobs, sizes):
    ended = []
    queue = filled(jobs)
    for batch in drained(queue, sizes):
        left = {job.job_id for job in queue}
        ended += [job for job, _ in batch if job.job_id not in left]
    for client in "abc":
        for key in "xy":
            for limit in (1 << 30, 1, 2):
                alike = (client, key, limit)
                order = [int(j.job_id) for j in ended if (j.client, j.key, j.limit) == alike]
                assert order == sorted(order)


@given(jobs=JOBS, data=st.data())
def test_a_removed_job_is_never_taken(jobs, data):
    queue = filled(jobs)
    gone = data.draw(st.sampled_from([job.job_id for job in queue]))
    assert queue.remove(gone)
    assert not queue.remove(gone)
    assert len(queue) == len(jobs) - 1
    assert all(job.job_id != gone for batch in drained(queue, (1, 2, 4)) for job, _ in batch)


@given(jobs=JOBS, sizes=SIZES, paused=st.sets(st.sampled_from("abc")))
def test_jobs_of_paused_clients_are_last_and_not_taken(jobs, sizes, paused):
    queue = filled(jobs)
    queue.paused = paused
    held = {str(i) for i, (client, *_) in enumerate(jobs) if client in paused}
    order = [job.job_id for job in queue]
    assert set(order[len(order) - len(held) :]) == held
    assert queue.ready == (len(held) < len(jobs))
    taken = {job.job_id for batch in drained(queue, sizes) for job, _ in batch}
    assert taken == {str(i) for i in range(len(jobs))} - held
    assert {job.job_id for job in queue} == held


@given(jobs=JOBS, data=st.data())
def test_a_client_orders_its_own_jobs(jobs, data):
    queue = filled(jobs)
    others = {client: queue.of(client) for client in "bc"}
    order = data.draw(st.permutations(queue.of("a")))
    queue.arrange("a", order)
    assert queue.of("a") == order
    assert {client: queue.of(client) for client in "bc"} == others

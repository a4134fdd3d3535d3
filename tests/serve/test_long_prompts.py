"""What is not read of a long prompt is told: before sending, in the job, in A1111's `info`."""

import json

import pytest

from dg2_jax.text.encoder import load_text_encoder
from dg2_jax.text.lengths import Length, measure
from tests.serve.fakes import FakePipeline
from tests.serve.test_jobs import events_of

LONG = "a red lake under a blue mountain at dawn in the spring"  # 12 words, a token each


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder("minilm", 10)


@pytest.fixture
def short(start, encoder):
    pipe = FakePipeline(step_seconds=0.01)
    pipe.text_encoder = encoder
    return start(pipe=pipe)


def test_lengths(encoder):
    assert measure(encoder, "") == Length(0, 8, "")
    assert measure(encoder, "a lake at dawn") == Length(4, 8, "")
    assert measure(encoder, LONG) == Length(12, 8, "dawn in the spring")
    assert measure(encoder, f"a (lake:1.3) AND {LONG}") == Length(12, 8, "dawn in the spring")
    assert measure(load_text_encoder("minilm", 10, long_prompts="chunk"), LONG) is None
    with pytest.raises(ValueError, match="prompt"):
        measure(encoder, "a (lake:9)")


def test_jobs_and_info_tell_what_was_cut(short):
    expected = "prompt: 12 tokens, of which 8 are read; left out: dawn in the spring"
    job = short.submit(prompt=LONG, negative_prompt="fog")
    told = [data for _, name, data in events_of(short, job["id"]) if name == "notes"]
    assert told == [{"notes": [expected]}]
    assert short.finished(job["id"])["notes"] == [expected]
    both = short.submit(prompt="x", negative_prompt=LONG)
    assert short.finished(both["id"])["notes"] == [expected.replace("prompt", "negative_prompt", 1)]
    views = [{"prompt": "a", "view": "identity"}, {"prompt": LONG, "view": "rot180"}]
    anagram = short.submit(kind="anagram", anagram=views)
    assert short.finished(anagram["id"])["notes"] == [
        expected.replace("prompt", "anagram.1.prompt", 1)
    ]
    assert short.finished(short.submit(prompt="a lake")["id"])["notes"] == []

    body = {"prompt": LONG, "steps": 2}
    answer = short.client.post("/sdapi/v1/txt2img", json=body).json()
    assert json.loads(answer["info"])["comments"] == expected


def test_tokens_are_counted_before_sending(short, server):
    def count(where, **asked):
        return where.client.post("/api/v1/tokens", json=asked)

    assert count(short, prompt=LONG).json() == {
        "tokens": 12, "limit": 8, "cut": "dawn in the spring", "problem": None,
    }  # fmt: skip
    assert count(short, prompt="", model="demo").json()["tokens"] == 0
    assert count(server, prompt=LONG).json()["limit"] is None
    wrong = count(short, prompt="a (lake:9)").json()
    assert (wrong["tokens"], "from 0 to 2" in wrong["problem"]) == (None, True)
    for asked, field in (
        ({"prompt": "x", "model": "none"}, "model"),
        ({"prompt": "x" * 5000}, "prompt"),
    ):
        answer = count(short, **asked)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field

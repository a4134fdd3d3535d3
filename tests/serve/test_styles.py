"""Stored styles, natively and for A1111's clients; and wildcards in jobs."""

import json

import pytest

from dg2_jax.checks import ParameterError
from dg2_jax.serve.styles import Style, Styles
from tests.serve.live import LiveServer

INK = {"prompt": "an ink drawing of {prompt}, {prompt} again", "negative_prompt": "colour"}


def put(server, name, **texts):
    return server.client.put(f"/api/v1/styles/{name}", json=texts)


def test_styles_are_stored_replaced_and_deleted(server, start):
    assert server.client.get("/api/v1/styles").json() == {"styles": []}
    assert put(server, "ink", prompt="ink").status_code == 201
    assert put(server, "ink", **INK).status_code == 200
    assert put(server, "Äther 2", prompt="pale").status_code == 201
    wanted = [{"name": "ink", **INK}, {"name": "Äther 2", "prompt": "pale", "negative_prompt": ""}]
    assert server.client.get("/api/v1/styles").json() == {"styles": wanted}
    assert server.client.get("/sdapi/v1/prompt-styles").json() == wanted
    again = LiveServer(server.settings.data)  # another server of the same folder: it is on disk
    try:
        assert again.client.get("/api/v1/styles").json() == {"styles": wanted}
        assert put(again, "later", prompt="by another").status_code == 201
        assert put(server, "later", prompt="known").status_code == 200
        assert server.client.delete("/api/v1/styles/later").status_code == 204
        assert again.client.get("/api/v1/styles").json() == {"styles": wanted}
    finally:
        again.stop()
    assert server.client.delete("/api/v1/styles/ink").status_code == 204
    assert server.client.delete("/api/v1/styles/ink").status_code == 404
    assert server.client.get("/api/v1/styles").json() == {"styles": wanted[1:]}


@pytest.mark.parametrize(
    ("name", "texts"),
    [("ink", {}), ("ink", {"prompt": " "}), ("a,b", INK), ("%20", INK), ("x" * 101, INK)],
)
def test_what_is_no_style_is_refused(server, name, texts):
    assert put(server, name, **texts).status_code == 422
    assert server.client.get("/api/v1/styles").json() == {"styles": []}


def test_a_job_is_about_the_prompts_that_its_styles_made(server):
    put(server, "ink", **INK)
    put(server, "wide", prompt="a wide view")
    fields = {"prompt": "a lake", "negative_prompt": "fog", "styles": ["ink", "wide"]}
    job = server.submit(**fields)
    made = {
        "prompt": "an ink drawing of a lake, a lake again, a wide view",
        "negative_prompt": "fog, colour",
        "styles": [],
    }
    assert made.items() <= job["request"].items()
    done = server.finished(job["id"])
    assert done["images"][0]["prompt"] == made["prompt"]
    server.client.delete("/api/v1/styles/ink")
    again = server.finished(server.submit(**job["request"])["id"])
    assert again["images"][0]["sha256"] == done["images"][0]["sha256"]


def test_styles_stay_around_a_matched_prompt(server):
    put(server, "wide", prompt="a wide view")
    job = server.submit(prompt="a lake", prompt_matching="train", styles=["wide"])
    assert job["matched_from"] == "a lake"
    assert job["request"]["prompt"] == "a lake at dawn, a wide view"


def test_styles_that_are_missing_or_too_long_are_refused(server):
    put(server, "long", prompt="x" * 3990)
    for fields, field in (
        ({"styles": ["none"]}, "styles"),
        ({"styles": "long"}, "styles"),
        ({"styles": ["long"], "prompt": "a lake at dawn"}, "prompt"),
    ):
        answer = server.client.post("/api/v1/jobs", json={"kind": "txt2img", **fields})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field
    assert not server.client.get("/api/v1/jobs").json()["jobs"]


def test_clients_of_a1111_use_styles(server):
    put(server, "ink", **INK)
    body = {"prompt": "a lake", "steps": 2, "styles": ["ink"]}
    info = json.loads(server.client.post("/sdapi/v1/txt2img", json=body).json()["info"])
    assert info["styles"] == ["ink"]
    assert info["prompt"] == "an ink drawing of a lake, a lake again"
    assert info["negative_prompt"] == "colour"
    refused = server.client.post("/sdapi/v1/txt2img", json={**body, "styles": ["oil"]})
    assert refused.status_code == 422
    assert "styles" in refused.json()["detail"]


def test_a_damaged_file_of_styles_is_left_and_a_failed_write_changes_nothing(tmp_path, monkeypatch):
    styles = Styles(tmp_path)
    styles.put(Style("ink", "ink"))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        styles.put(Style("oil", "oil"))
    with pytest.raises(OSError, match="no room"):
        styles.delete("ink")
    assert {path.name for path in tmp_path.iterdir()} == {"styles.json", "styles.lock"}
    assert styles.all() == Styles(tmp_path).all() == [Style("ink", "ink")]
    with pytest.raises(ParameterError, match="styles must be stored styles: ink; got 'oil'"):
        styles.applied("", "", ["oil"])
    (tmp_path / "styles.json").write_text("[{")
    with pytest.raises(ValueError, match="is damaged"):
        Styles(tmp_path)
    assert (tmp_path / "styles.json").read_text() == "[{"


def test_wildcards_are_drawn_for_each_picture_and_recorded(server):
    job = server.finished(server.submit(prompt="{a|b|c} lake", num_images=8, seed=5)["id"])
    prompts = [image["prompt"] for image in job["images"]]
    assert prompts == [server.pipe.wildcards.drawn("{a|b|c} lake", 5 + i) for i in range(8)]
    assert len(set(prompts)) == 3
    image = job["images"][3]
    png = server.client.get(image["url"]).content
    request = server.client.post("/api/v1/png-info", files={"file": png}).json()["request"]
    assert (request["prompt"], request["seed"]) == (prompts[3], 8)
    body = {"prompt": "{a|b|c} lake", "steps": 2, "batch_size": 8, "seed": 5}
    info = json.loads(server.client.post("/sdapi/v1/txt2img", json=body).json()["info"])
    assert info["all_prompts"] == prompts
    body = {"prompt": "{a|b|c} lake", "seed": 5}
    answer = server.client.post("/v1/images/generations", json=body).json()
    assert answer["data"][0]["revised_prompt"] == prompts[0]


def test_wildcards_come_from_the_operators_folder_and_unknown_ones_are_refused(start, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "mood.txt").write_text("gloomy\n")
    server = start(wildcards=tmp_path / "lists")
    assert "mood" in server.client.get("/api/v1/options").json()["wildcards"]
    pairs = [{"prompt": "__mood__", "view": view} for view in ("identity", "rot180")]
    for fields, field in (
        ({"prompt": "a __moood__ lake"}, "prompt"),
        ({"negative_prompt": "__moood__"}, "negative_prompt"),
        ({"kind": "anagram", "anagram": pairs}, "anagram"),
    ):
        answer = server.client.post("/api/v1/jobs", json={"kind": "txt2img", **fields})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field
    counted = server.client.post("/api/v1/tokens", json={"prompt": "__moood__"}).json()
    assert "names the wildcard 'moood', but there are season, " in counted["problem"]
    server.submit(prompt="a __mood__ lake")

"""Pictures after they are made: favourites, orders, deletion and its undoing, names, ZIP files."""

import io
import time
import zipfile

import httpx
import pytest

from dg2_jax.serve import file_names, gallery
from dg2_jax.serve.disk import Disk
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import Image

pytestmark = pytest.mark.usefixtures("each_database")


def made(server, *prompts, **fields) -> list[dict]:
    """Finished pictures, one a prompt."""
    jobs = [server.submit(prompt=prompt, seed=i, **fields) for i, prompt in enumerate(prompts)]
    return [server.finished(job["id"])["images"][0] for job in jobs]


def listed(server, **query) -> list[str]:
    return [
        image["id"] for image in server.client.get("/api/v1/images", params=query).json()["images"]
    ]


def change(server, images, **what) -> httpx.Response:
    ids = [image["id"] for image in images]
    return server.client.patch("/api/v1/images", json={"ids": ids, **what})


def test_favourites_are_seen_by_every_client_and_survive_a_restart(start):
    server = start()
    one, two = made(server, "one", "two")
    assert not one["favourite"]
    assert change(server, [two, {"id": "none_000"}], favourite=True).json() == {"ids": [two["id"]]}
    server.stop()
    server = start()
    other = server.client.get("/api/v1/images", headers={"X-Client-ID": "other"}).json()["images"]
    assert {image["id"]: image["favourite"] for image in other} == {
        one["id"]: False,
        two["id"]: True,
    }
    assert listed(server, favourite=True) == [two["id"]]
    assert listed(server, favourite=False) == [one["id"]]
    job = server.client.get(f"/api/v1/jobs/{two['job_id']}").json()
    assert job["images"][0]["favourite"]
    change(server, [two], favourite=False)
    assert listed(server, favourite=True) == []


def test_orders_go_on_from_page_to_page(server):
    b, a, c, a2 = (image["id"] for image in made(server, "b", "a", "c", "a"))
    wanted = {"newest": [a2, c, a, b], "oldest": [b, a, c, a2], "prompt": [a, a2, b, c]}
    for sort, order in wanted.items():
        found, following = [], None
        while True:
            query = {"sort": sort, "limit": 1, **({"before": following} if following else {})}
            page = server.client.get("/api/v1/images", params=query).json()
            found += [image["id"] for image in page["images"]]
            following = page["next"]
            if following is None:
                break
        assert found == order


def test_a_page_goes_on_after_a_picture_that_was_deleted(server):
    images = {image["prompt"]: image for image in made(server, "a", "b", "c")}
    change(server, [images["b"]], deleted=True)
    for sort, left in (("newest", "a"), ("oldest", "c"), ("prompt", "c")):
        assert listed(server, sort=sort, before=images["b"]["id"]) == [images[left]["id"]]


def test_deleted_pictures_are_hidden_everywhere_and_come_back(server):
    one, two, three = made(server, "one", "two", "three")
    get, post = server.client.get, server.client.post
    assert change(server, [one, two], deleted=True).json()["ids"] == [one["id"], two["id"]]
    assert listed(server) == [three["id"]]
    assert get(one["url"]).status_code == 404
    assert get(f"/api/v1/jobs/{one['job_id']}").json()["images"] == []
    assert change(server, [one], favourite=True).json() == {"ids": []}
    as_input = post("/api/v1/jobs", json={"kind": "upscale", "image": one["id"]})
    assert as_input.status_code == 422
    assert server.client.delete(f"/api/v1/images/{one['id']}").status_code == 404
    assert change(server, [one, three], deleted=False).json() == {"ids": [one["id"]]}
    assert listed(server) == [three["id"], one["id"]]
    assert get(one["url"]).status_code == 200
    assert [i["id"] for i in get(f"/api/v1/jobs/{one['job_id']}").json()["images"]] == [one["id"]]


def test_a_single_deletion_can_be_taken_back(server):
    (one,) = made(server, "one")
    assert server.client.delete(f"/api/v1/images/{one['id']}").status_code == 204
    assert listed(server) == []
    change(server, [one], deleted=False)
    assert listed(server) == [one["id"]]


def test_what_is_deleted_is_erased_when_its_time_is_over(server, monkeypatch):
    one, two = made(server, "one", "two")
    change(server, [one], deleted=True)
    files = list(server.settings.data.rglob("*.png"))
    assert len(files) == 2
    server.context.gallery.tidy()
    assert len(list(server.settings.data.rglob("*.png"))) == 2
    monkeypatch.setattr(gallery, "KEPT_SECONDS", 0.0)
    server.context.gallery.tidy()
    assert [path.stem for path in server.settings.data.rglob("*.png")] == [two["id"]]
    assert change(server, [one], deleted=False).json() == {"ids": []}


def test_a_deletion_that_a_crash_cut_short_is_finished(server, monkeypatch):
    (one,) = made(server, "one")
    with monkeypatch.context() as dying:
        dying.setattr(server.context.files, "hide", lambda image_id: None)
        change(server, [one], deleted=True)
    assert server.client.get(one["url"]).status_code == 200
    server.context.gallery.tidy()
    assert server.client.get(one["url"]).status_code == 404
    change(server, [one], deleted=False)
    assert server.client.get(one["url"]).status_code == 200


def test_a_full_disk_erases_what_is_deleted(server, monkeypatch):
    one, two, three = made(server, "one", "two", "three")
    change(server, [one], deleted=True)
    with monkeypatch.context() as full:
        full.setattr(Disk, "free", lambda self: 0)
        change(server, [two], deleted=True)
        assert len(list(server.settings.data.rglob("*.png"))) == 2  # of one and three
        server.context.gallery.tidy()
    assert [path.stem for path in server.settings.data.rglob("*.png")] == [three["id"]]
    assert change(server, [one, two], deleted=False).json() == {"ids": []}


def test_forgetting_a_job_erases_its_deleted_pictures_too(server):
    (one,) = made(server, "one")
    change(server, [one], deleted=True)
    forgotten = server.client.delete(f"/api/v1/jobs/{one['job_id']}", params={"forget": True})
    assert forgotten.status_code == 204
    assert not list(server.settings.data.rglob("*.png"))
    assert change(server, [one], deleted=False).json() == {"ids": []}


def test_pictures_of_a_job_that_runs_are_not_deleted(start):
    server = start(max_batch=1)
    (done,) = made(server, "done")
    server.pipe.go.clear()
    job = server.submit(prompt="x", num_images=2, num_inference_steps=2)
    server.pipe.go.set()
    server.pipe.step_seconds = 0.5
    url = f"/api/v1/jobs/{job['id']}"
    while not (images := server.client.get(url).json()["images"]):
        time.sleep(0.01)
    refused = change(server, [done, images[0]], deleted=True)
    assert refused.status_code == 409
    assert job["id"] in refused.json()["detail"]
    assert done["id"] in listed(server)
    server.client.delete(url)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ids": ["x_0"]}, "favourite"),
        ({"ids": [], "deleted": True}, "ids"),
        ({"ids": ["x_0"], "deleted": True, "hidden": True}, "hidden"),
    ],
)
def test_changes_that_say_nothing_are_refused(server, body, field):
    answer = server.client.patch("/api/v1/images", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_a_zip_holds_the_pictures_as_they_are(server):
    images = made(server, "a lake", "a lake", "a/b: c?")
    ids = [image["id"] for image in images]
    body = {"ids": [*ids, "none_000"], "name": "{prompt}"}
    with server.client.stream("POST", "/api/v1/images/zip", json=body) as answer:
        assert answer.status_code == 200
        assert "content-length" not in answer.headers  # it is sent while it is made
        assert answer.headers["content-disposition"].endswith('filename="pictures.zip"')
        data = b"".join(answer.iter_bytes())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a lake.png", "a lake (2).png", "a b c.png"]
        for name, image in zip(archive.namelist(), images, strict=True):
            assert archive.read(name) == server.client.get(image["url"]).content


def test_a_zip_of_nothing_or_by_a_wrong_pattern_is_refused(server):
    (one,) = made(server, "one")
    post = server.client.post
    assert post("/api/v1/images/zip", json={"ids": ["none_000"]}).status_code == 404
    for pattern in ("{nobody}", "{prompt", "{seed:>9}", "{prompt!r}", "{prompt.x}"):
        answer = post("/api/v1/images/zip", json={"ids": [one["id"]], "name": pattern})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "name"
        query = {"download": True, "name": pattern}
        assert server.client.get(one["url"], params=query).status_code == 422


def picture(**fields) -> Image:
    about = {"prompt": "a lake", "seed": 7, "width": 64, "height": 64, **fields}
    metadata = {"guidance_scale": 2.5, "model": "demo", **about}
    return Image(
        "j_000", "j", 0, "txt2img", negative_prompt="", sha256="", created_at=0.0,
        metadata=metadata, **about,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "fields", "name"),
    [
        (file_names.DEFAULT, {}, "a lake 7"),
        ("{model}_{guidance_scale}_{width}x{height}", {}, "demo_2.5_64x64"),
        ("{kind}-{id}-{index}", {}, "txt2img-j_000-0"),
        ("{prompt}", {"prompt": ""}, "j_000"),
        ("{prompt}", {"prompt": "..\\../a\x00b\u202ec\n d "}, "a b c d"),
        ("{prompt}", {"prompt": "Ürümqi 湖"}, "Ürümqi 湖"),
        ("../{seed}", {}, "7"),
        ("{solver}", {}, "j_000"),
        ("{{{seed}}}", {}, "{7}"),
    ],
)
def test_names_are_safe_on_every_system(pattern, fields, name):
    file_names.check(pattern)
    assert file_names.name_of(picture(**fields), pattern) == name


def test_a_long_prompt_does_not_push_the_seed_out():
    name = file_names.name_of(picture(prompt="湖" * 3000))
    assert name.endswith(" 7")
    assert len(name.encode()) <= 200


def test_every_field_of_a_pattern_is_offered(server):
    told = server.client.get("/api/v1/options").json()["file_names"]
    assert told == {"default": file_names.DEFAULT, "fields": list(file_names.FIELDS)}
    file_names.check("".join(f"{{{field}}}" for field in told["fields"]))
    with pytest.raises(ProblemError, match="has no field 'x'"):
        file_names.check("{x}")


def test_a_download_is_named_by_the_pattern(server):
    (one,) = made(server, "a lake, 湖")
    query = {"download": True, "name": "{seed}: {prompt}"}
    answer = server.client.get(one["url"], params=query)
    told = answer.headers["content-disposition"]
    assert "filename*=utf-8''0%20a%20lake%2C%20%E6%B9%96.png" in told
    assert told.endswith('filename="0 a lake, _.png"')

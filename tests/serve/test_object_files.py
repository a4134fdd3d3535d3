"""Pictures in an object store: an S3 server that runs here."""

import os
import uuid

import pytest

from dg2_jax.serve.object_files import ObjectFiles
from tests.serve.live import LiveServer


@pytest.fixture(scope="module")
def s3():
    """Makes addresses of new buckets."""
    try:
        import s3fs
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    named = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in named.items():
            environment.setenv(name, value)

        def make():
            bucket = f"pictures-{uuid.uuid4().hex}"
            s3fs.S3FileSystem().mkdir(bucket)
            return f"s3://{bucket}/some/path"

        yield make
    server.stop()


def test_pictures_are_written_hidden_shown_and_deleted(s3):
    files = ObjectFiles(s3())
    assert files.read("a_000") is None
    files.write("a_000", b"one")
    files.write("a_000", b"another")
    assert (files.read("a_000"), files.has("a_000")) == (b"another", True)
    files.hide("a_000")
    assert (files.read("a_000"), files.has("a_000")) == (None, False)
    files.show("a_000")
    assert files.read("a_000") == b"another"
    for _ in range(2):
        files.delete("a_000")
        files.hide("a_000")
    assert not files.has("a_000")
    assert files.write_input(b"x") == files.write_input(b"x")
    assert not files.has("../secret")
    with pytest.raises(ValueError, match="not a picture's id"):
        files.write("../secret", b"")


def test_a_store_that_is_not_there_is_an_error_of_the_disk(s3):
    with pytest.raises(OSError, match=r"."):
        ObjectFiles("s3://no-such-bucket/path").write("a_000", b"")


def test_a_kind_of_store_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="nonsense"):
        ObjectFiles("nonsense://bucket")


def test_a_server_keeps_its_pictures_there(s3, tmp_path):
    server = LiveServer(tmp_path, pictures=s3())
    try:
        job = server.finished(server.submit(prompt="x", num_inference_steps=1)["id"])
        url = job["images"][0]["url"]
        made = server.client.get(url)
        assert made.status_code == 200
        again = {"kind": "upscale", "image": job["images"][0]["id"], "upscale": 2}
        larger = server.finished(server.client.post("/api/v1/jobs", json=again).json()["id"])
        assert larger["status"] == "done"
        assert server.client.delete(url.removesuffix(".png")).status_code == 204
        assert server.client.get(url).status_code == 404
        assert not list(tmp_path.rglob("*.png"))
    finally:
        server.stop()

"""Networks that enlarge: x2plus from a folder, pictures enhanced at their size; and `/health`."""

import io

import numpy as np
import pytest
from PIL import Image

import dg2_jax
from dg2_jax.interop import upscaler_files
from tests.interop.test_realesrgan_pth import rrdbnet
from tests.interop.torch_files import write_torch
from tests.serve.test_jobs import pixels, png


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A small network of x2plus's kind, in a folder."""
    monkeypatch.setenv(upscaler_files.FOLDER, "")  # what the server writes there is taken back
    path = tmp_path / "weights" / "RealESRGAN_x2plus.pth"
    path.parent.mkdir()
    write_torch(path, {"params_ema": rrdbnet(cells=4)})
    return path


@pytest.mark.parametrize("given", ["folder", "file"])
def test_x2plus_is_offered_and_enlarges(start, weights, given):
    server = start(upscalers_dir=weights.parent if given == "folder" else weights)
    server.context.engine.worker._upscale = dg2_jax.upscale
    names = [one["name"] for one in server.client.get("/api/v1/upscalers").json()["upscalers"]]
    assert "x2plus" in names
    controls = server.client.get("/api/v1/options").json()["controls"]
    upscaler = next(one for one in controls if one["name"] == "upscaler")
    assert "x2plus" in upscaler["choices"]
    theirs = server.client.get("/sdapi/v1/upscalers").json()
    assert {"R-ESRGAN 2x+": 2}.items() <= {one["name"]: one["scale"] for one in theirs}.items()

    source = np.random.default_rng(0).integers(0, 256, (20, 28, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(source).save(out, "PNG")
    files = {"file": out.getvalue()}
    stored = server.client.post("/api/v1/inputs", files=files).json()["id"]
    fields = {"kind": "upscale", "image": stored, "upscaler": "x2plus"}
    for factor in (1, 2, 4):
        job = server.finished(server.submit(**fields, upscale=factor)["id"], seconds=120)
        assert job["status"] == "done", job["error"]
        found = pixels(server, job["images"][0])
        assert found.shape == (20 * factor, 28 * factor, 3)
        np.testing.assert_array_equal(found, dg2_jax.upscale(source, weights, factor))
        assert not np.array_equal(found[::factor, ::factor], source)


def test_what_is_not_installed_is_not_offered_and_refused_by_name(start, monkeypatch):
    monkeypatch.delenv(upscaler_files.FOLDER, raising=False)
    server = start()
    names = [one["name"] for one in server.client.get("/api/v1/upscalers").json()["upscalers"]]
    assert names == ["x4plus", "x4plus-anime", "animevideov3"]
    for fields in ({"kind": "upscale", "image": png()}, {"kind": "txt2img", "upscale": 2}):
        answer = server.client.post("/api/v1/jobs", json={**fields, "upscaler": "x2plus"})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "upscaler"
        assert "RealESRGAN_x2plus.pth" in answer.json()["detail"]
    assert server.client.get("/api/v1/jobs").json()["jobs"] == []


def test_official_files_in_the_folder_stand_in_for_the_wheel(weights, monkeypatch):
    monkeypatch.setenv(upscaler_files.FOLDER, str(weights.parent))
    monkeypatch.setattr(upscaler_files.extras, "find", lambda module: None)
    assert upscaler_files.find_weights("x2plus") == weights
    with pytest.raises(FileNotFoundError, match=r"put RealESRGAN_x4plus\.pth into a folder"):
        upscaler_files.find_weights("x4plus")
    official = weights.with_name("RealESRGAN_x4plus.pth")
    official.write_bytes(weights.read_bytes())
    assert upscaler_files.find_weights("x4plus") == official


def test_health_names_the_device_and_what_is_loaded(server):
    health = server.client.get("/api/v1/health").json()
    assert health["status"] == "ok"
    assert health["device"]["platform"] == "cpu"
    assert health["device"]["count"] >= 1
    assert health["loaded"] == ["demo"]
    ready = server.client.get("/api/v1/ready")
    assert (ready.status_code, health["ready"]) == (200, True)
    assert ready.json().items() <= health.items()

"""From pictures to an encoded data set: what is kept, what comes out, kills, many processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dg2_jax.data import latents, preparation, screening
from dg2_jax.files import sha256
from dg2_jax.interop.diffusers_vae import from_pretrained
from dg2_jax.pictures.image_input import load_image
from dg2_jax.pictures.images import from_uint8
from tests.data.pictures import pixels, prepare, write_folder, write_picture
from tests.interop import published


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return published.clip_folder(tmp_path_factory.mktemp("published") / "clip")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, clip):
    """A folder of 30 pictures, and the data set that an unbroken run makes of it."""
    root = tmp_path_factory.mktemp("whole")
    prepare(write_folder(root / "pictures", 30), root / "out", clip)
    return root / "pictures", root / "out"


def digests(folder):
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def read(folder, split):
    return [source[i] for source in latents.open_split(folder, split) for i in range(len(source))]


def test_the_report_names_every_bad_picture(tmp_path, clip):
    root = tmp_path / "pictures"
    write_folder(root, 9)
    (root / "broken.jpg").write_bytes((root / "000.png").read_bytes()[:300])
    (root / "broken.txt").write_text("a lake")
    write_picture(root / "more" / "copy.png", 3, 20, 16)
    write_picture(root / "tiny.png", 50, 7, 30)
    write_picture(root / "silent.webp", 51, captions=(), lossless=True)
    manifest = prepare(root, tmp_path / "out", clip)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["pictures"], report["kept"]) == (13, 9)
    problems = {line["name"]: line["problem"] for line in report["problems"]}
    assert problems.pop("broken.jpg").startswith("broken: ")
    assert problems == {
        "more/copy.png": "duplicate of 003.png",
        "tiny.png": "tiny: 7x30, the shorter side must have 8 pixels",
        "silent.webp": "it has no caption",
    }
    assert sum(manifest["splits"].values()) == 9
    told = preparation.summary(manifest, tmp_path / "out")
    assert told["left_out"] == 4
    assert told["report"] == str(tmp_path / "out" / "report.json")


def test_records_are_what_the_networks_give(whole, clip):
    root, output = whole
    manifest = latents.read_manifest(output)
    # A published autoencoder keeps its own scaling.
    vae = from_pretrained(published.VAE)
    assert manifest["scaling_factor"] == vae.config.scaling_factor
    assert manifest["text_encoder"] == {"name": str(clip), "max_length": published.CLIP_LENGTH}
    kept = json.loads((output / "report.json").read_text())["kept"]
    records = {split: read(output, split) for split in ("train", "validation")}
    assert {split: len(r) for split, r in records.items()} == manifest["splits"]
    assert sum(map(len, records.values())) == kept == 30
    assert 1 <= len(records["validation"]) <= 15
    limit = 0.2 * 2**256
    held_out = [i for i in range(30) if int(sha256(root / f"{i:03d}.png"), 16) < limit]
    order = {"validation": held_out, "train": [i for i in range(30) if i not in held_out]}
    for split, indices in order.items():
        images = np.stack([load_image(root / f"{i:03d}.png", 16, 16) for i in indices])
        np.testing.assert_array_equal(images[0], pixels(indices[0], 20, 16)[:, 2:-2])
        posterior = vae.encode(from_uint8(images))
        actual = np.stack([record["mean"] for record in records[split]])
        np.testing.assert_allclose(actual, posterior.mean, rtol=2e-3, atol=2e-3)
    assert records["train"][0]["offsets"].tolist() == [0, 4, 10]  # words, start and end
    for shard in manifest["shards"]:
        assert sha256(output / shard["file"]) == shard["sha256"]


def test_again_changes_nothing_and_another_recipe_is_refused(whole, clip):
    root, output = whole
    before = digests(output)
    times = {p: p.stat().st_mtime_ns for p in output.glob("*.array_record")}
    prepare(root, output, clip)
    assert digests(output) == before
    assert {p: p.stat().st_mtime_ns for p in output.glob("*.array_record")} == times
    with pytest.raises(ValueError, match=r"out: .* differs in size, min_side"):
        prepare(root, output, clip, size=8)
    assert digests(output) == before
    with pytest.raises(ValueError, match="must be a new folder"):
        prepare(root, root, clip)


def test_a_damaged_or_missing_shard_is_made_again(whole, clip, tmp_path):
    root, output = whole
    copy = tmp_path / "out"
    copy.mkdir()
    for name in digests(output):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes((output / name).read_bytes())
    first, second = sorted(copy.glob("train*.array_record"))[:2]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    prepare(root, copy, clip)
    assert digests(copy) == digests(output)


def test_a_run_that_stops_goes_on_and_gives_equal_bytes(whole, clip, tmp_path, monkeypatch):
    root, output = whole
    encode = preparation.UnitEncoder.__call__

    def dies(self, unit):
        if unit == 2:
            raise KeyboardInterrupt
        return encode(self, unit)

    monkeypatch.setattr(preparation.UnitEncoder, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        prepare(root, tmp_path / "out", clip)
    monkeypatch.undo()
    assert not (tmp_path / "out" / "manifest.json").exists()
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.array_record")}
    assert done
    prepare(root, tmp_path / "out", clip)
    assert digests(tmp_path / "out") == digests(output)
    assert {p: p.stat().st_mtime_ns for p in done} == done


def test_processes_that_share_a_folder_give_equal_bytes(whole, clip, tmp_path):
    root, output = whole
    results = {}

    def share(index):
        options = {"process_index": index, "process_count": 2}
        results[index] = prepare(root, tmp_path / "out", clip, options=options)

    other = threading.Thread(target=share, args=(1,))
    other.start()
    share(0)
    other.join()
    assert results == {0: latents.read_manifest(output), 1: None}
    assert digests(tmp_path / "out") == digests(output)


def test_sigkill_of_local_processes_and_equal_bytes(whole, clip, tmp_path):
    root, output = whole
    command = [sys.executable, "-m", "scripts.prepare", "--workers=2", "--size=16"]
    command += [f"--source={root}", f"--out={tmp_path / 'out'}", f"--vae={published.VAE}"]
    command += [f"--text_encoder={clip}", f"--max_length={published.CLIP_LENGTH}"]
    command += ["--validation_share=0.2", "--shard_pictures=8"]
    running = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], start_new_session=True, stderr=subprocess.PIPE
    )
    while running.poll() is None and not list((tmp_path / "out").glob("parts/encode-*")):
        time.sleep(0.01)
    assert running.poll() is None, running.stderr.read().decode()
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    running.stderr.close()
    assert not (tmp_path / "out" / "manifest.json").exists()
    prepare(root, tmp_path / "out", clip)
    assert digests(tmp_path / "out") == digests(output)


def test_ray_gives_equal_bytes(whole, clip, tmp_path):
    ray = pytest.importorskip("ray")
    root, output = whole
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        prepare(root, tmp_path / "out", clip, options={"engine": "ray", "workers": 2})
    finally:
        ray.shutdown()
    assert digests(tmp_path / "out") == digests(output)


def test_buckets_crop_least_and_a_batch_has_one_size(tmp_path, clip):
    root = tmp_path / "pictures"
    for i, (width, height) in enumerate([(48, 24), (24, 48), (30, 30), (31, 30)] * 3):
        write_picture(root / f"{i:02d}.png", i, width, height)
    # Lying on its side by its EXIF orientation: 48 x 24 in the file, 24 x 48 upright.
    exif = Image.Exif()
    exif[0x0112] = 6
    write_picture(root / "turned.png", 99, 48, 24, exif=exif)
    manifest = prepare(
        root, tmp_path / "out", clip, resize_mode="bucket", bucket_step=4, shard_pictures=100
    )
    counts = {(s["split"], *s["size"]): s["count"] for s in manifest["shards"]}
    by_size = {
        size: sum(n for k, n in counts.items() if k[1:] == size) for size in {k[1:] for k in counts}
    }
    assert by_size == {(16, 16): 6, (12, 20): 3, (20, 12): 4}
    sources = latents.open_split(tmp_path / "out", "train")
    shapes = {source[0]["mean"].shape: len(source) for source in sources}
    assert {(h * 2, w * 2) for h, w, _ in shapes} == {(16, 16), (12, 20), (20, 12)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 15}, "size must be a multiple of 2, got 15"),
        ({"bucket_step": 3, "resize_mode": "bucket"}, "bucket_step must be a multiple of 2, got 3"),
        ({"resize_mode": "stretch"}, "resize_mode must be one of"),
        ({"validation_share": 1.0}, r"validation_share must be in \(0, 1\)"),
        ({"model": "demo"}, "either model or vae must be given"),
        ({"vae": ""}, "either model or vae must be given"),
        ({"options": {"engine": "slurm"}}, "engine must be one of local, ray"),
        ({"options": {"process_index": 2, "process_count": 2}}, "process_index must be in"),
    ],
)
def test_what_is_not_allowed_is_named(tmp_path, clip, changes, message):
    root = write_folder(tmp_path / "pictures", 2)
    with pytest.raises(ValueError, match=message):
        prepare(root, tmp_path / "out", clip, **changes)


def test_the_split_is_by_picture_and_lasts(tmp_path, clip):
    def finding(i, split=None, problem=None):
        digest = f"{(i * 2654435761) % 2**32:08x}{i:056x}"
        return screening.Finding(i, str(i), digest, 8, 8, split, problem)

    def held_out(findings, share=0.25):
        kept = screening.choose(findings, [(8, 8)], share)
        return {k.index for k in kept if k.split == "validation"}

    every = [finding(i) for i in range(400)]
    chosen = held_out(every)
    assert 80 < len(chosen) < 120
    assert held_out(every[:200]) == {i for i in chosen if i < 200}  # whatever else there is
    assert held_out(every, 0.1) < chosen
    assert len(held_out(every[1:4], 1e-9)) == 1
    named = [finding(0, "train"), finding(1, "validation"), finding(2)]
    assert held_out(named, 0.9) == {1}
    with pytest.raises(ValueError, match="1 of its pictures can be used, 2 are needed"):
        held_out([finding(0), finding(1, problem="broken")])


def test_buckets_have_about_the_area_and_cover_the_ratios():
    for size, step in ((128, 32), (256, 64), (512, 64)):
        sizes = screening.buckets(size, step)
        assert sizes[0] == (size, size)
        assert all(h % step == 0 and w % step == 0 for h, w in sizes)
        assert all(abs(h * w / size**2 - 1) < 0.35 and 0.5 <= h / w <= 2 for h, w in sizes)
        assert {(w, h) for h, w in sizes} == set(sizes)
        assert screening.nearest(100, 101, sizes) == (size, size)
        height, width = screening.nearest(100, 160, sizes)
        assert height < width

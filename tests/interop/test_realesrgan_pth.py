"""Files of Real-ESRGAN and ESRGAN by any trainer: they give the same network."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.interop import realesrgan, realesrgan_pth
from tests.interop.torch_files import write_torch

GOLDEN = Path(__file__).parents[1] / "golden" / "realesrgan_pth"
LUMA = np.array([0.299, 0.587, 0.114])


def rrdbnet(channels=3, cells=1, features=4, growth=2, blocks=2):
    rng = np.random.default_rng(0)
    sizes = {"conv_first": (features, channels * cells), "conv_last": (channels, features)}
    sizes |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (features, features))
    for n in range(blocks):
        for r in (1, 2, 3):
            for c in range(5):
                out = growth if c < 4 else features
                sizes[f"body.{n}.rdb{r}.conv{c + 1}"] = (out, features + c * growth)
    return random_state(rng, sizes)


def srvgg(channels=3, scale=2, features=4):
    sizes = {"body.0": (features, channels), "body.2": (features, features)}
    sizes["body.4"] = (channels * scale**2, features)
    rng = np.random.default_rng(0)
    slopes = {f"body.{i}.weight": rng.uniform(size=features) for i in (1, 3)}
    return random_state(rng, sizes) | {k: v.astype(np.float32) for k, v in slopes.items()}


def random_state(rng, sizes):
    state = {}
    for name, (c_out, c_in) in sizes.items():
        kernel = rng.normal(0, (9 * c_in) ** -0.5, (c_out, c_in, 3, 3))
        state[f"{name}.weight"] = kernel.astype(np.float32)
        state[f"{name}.bias"] = rng.normal(size=c_out).astype(np.float32)
    return state


def of_2018(name, blocks=2):
    """The names of ESRGAN's first code: places in a Sequential."""
    name = re.sub(r"^body\.(\d+)\.rdb(\d)\.conv(\d)", r"model.1.sub.\1.RDB\2.conv\3.0", name)
    places = {"conv_first": 0, "conv_up1": 3, "conv_up2": 6, "conv_hr": 8, "conv_last": 10}
    for layer, place in places.items():
        name = re.sub(rf"^{layer}\.", f"model.{place}.", name)
    return re.sub(r"^conv_body\.", f"model.1.sub.{blocks}.", name)


def of_2019(name):
    name = re.sub(r"^body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", name)
    name = re.sub(r"^conv_up", "upconv", name.replace("conv_body", "trunk_conv"))
    return name.replace("conv_hr", "HRconv")


@pytest.mark.parametrize("rename", [of_2018, of_2019])
def test_older_names(tmp_path, rename):
    state = rrdbnet()
    old = {rename(name): value for name, value in state.items()}
    assert len(old) == len(state)
    assert not any("rdb" in name for name in old)
    path = write_torch(tmp_path / "net.pth", old)
    found = realesrgan_pth.read(path)
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value)
    assert realesrgan.load(path).scale == 4


@pytest.mark.parametrize(
    "content",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"params": s},
        lambda s: {"params_ema": {}, "params": s},
        lambda s: {"params_ema": None, "params": s},
        lambda s: {"params_ema": {"step": 3}, "params": s},
        lambda s: {"params_ema": s, "params": {k: 0 * v for k, v in s.items()}},
        lambda s: {"params_ema": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"params": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
    ],
)
@pytest.mark.parametrize("make", [rrdbnet, srvgg])
def test_every_holder_and_wrapper(tmp_path, make, content):
    state = make()
    found = realesrgan_pth.read(write_torch(tmp_path / "net.pth", content(state)))
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("name", ["module", "orig_mod", "none_ema"])
def test_files_of_other_trainers(name):
    network = realesrgan.load(GOLDEN / f"{name}.pth")
    assert network(jnp.full((1, 4, 4, 3), 0.5)).shape[-1] == 3


@pytest.mark.parametrize(
    ("make", "options"),
    [(rrdbnet, {}), (rrdbnet, {"cells": 4}), (rrdbnet, {"cells": 16}), (srvgg, {})],
)
def test_one_channel_sees_the_luma_and_gives_grey(tmp_path, make, options):
    grey_state = make(channels=1, **options)
    path = write_torch(tmp_path / "net.pth", {"params": grey_state})
    network = realesrgan.load(path)
    colour = np.random.default_rng(1).uniform(size=(1, 8, 8, 3)).astype(np.float32)
    luma = np.broadcast_to((colour @ LUMA)[..., None], colour.shape)
    out, of_luma = (np.asarray(network(jnp.asarray(x, jnp.float32))) for x in (colour, luma))
    base = colour.repeat(2, 1).repeat(2, 2) if make is srvgg else 0.0  # added to what it computes
    grey_base = luma.repeat(2, 1).repeat(2, 2) if make is srvgg else 0.0
    np.testing.assert_allclose(out - base, of_luma - grey_base, atol=1e-5)
    for channel in (1, 2):
        np.testing.assert_allclose(of_luma[..., channel], of_luma[..., 0], atol=1e-6)
    # A colour network whose three channels are alike computes three times the same of a grey
    # picture, if each input channel has a third of the kernel.
    first = "conv_first.weight" if make is rrdbnet else "body.0.weight"
    last = "conv_last" if make is rrdbnet else "body.4"
    third = grey_state | {
        first: np.concatenate([grey_state[first] / 3] * 3, axis=1),
        **{
            f"{last}.{k}": np.concatenate([grey_state[f"{last}.{k}"]] * 3)
            for k in ("weight", "bias")
        },
    }
    expected = realesrgan.from_state(third)(jnp.asarray(luma, jnp.float32))
    np.testing.assert_allclose(of_luma, expected, atol=1e-4)


def test_pointers_and_other_networks_are_named(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="it is a Git LFS pointer"):
        realesrgan.load(path)
    with pytest.raises(ValueError, match="neither RRDBNet nor SRVGGNetCompact"):
        realesrgan.load(write_torch(path, {"model.0.weight": np.zeros(3, np.float32)}))
    two = {of_2018(n): v for n, v in rrdbnet().items()}  # one doubling fewer: another network
    del two["model.10.weight"], two["model.10.bias"]
    with pytest.raises(ValueError, match=r"conv_last\.weight is missing"):
        realesrgan.load(write_torch(path, two))

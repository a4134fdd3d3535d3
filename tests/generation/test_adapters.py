"""LoRA files and embeddings by the prompt, on a small Stable Diffusion model."""

import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dg2_jax.checks import ParameterError
from dg2_jax.models import lora as own_lora
from dg2_jax.models.adapters import Library
from dg2_jax.models.lora import LoraConfig
from dg2_jax.pipeline import Pipeline
from dg2_jax.text import prompt_tags
from dg2_jax.text.prompt_syntax import literal
from tests.sd_models import GOLDEN

FEW = {"num_inference_steps": 2, "seed": 5, "height": 32, "width": 32}
WIDTH = 32  # of the text encoder of the small model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """LoRA files in one folder and embeddings in another, as people keep them."""
    base = tmp_path_factory.mktemp("adapters")
    loras, words = base / "loras" / "styles", base / "words"
    loras.mkdir(parents=True)
    words.mkdir()
    for kind in ("kohya", "peft"):
        shutil.copy(GOLDEN / "sd1_tiny" / f"lora_{kind}.safetensors", loras / f"{kind}.safetensors")
    tensors = load_file(loras / "kohya.safetensors")
    wide = {k: np.repeat(v, 2, 1) if v.ndim == 2 and "down" in k else v for k, v in tensors.items()}
    save_file(wide, loras / "wide.safetensors")
    (loras / "broken.safetensors").write_bytes(b"no")
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (2, WIDTH)).astype(np.float32)
    save_file({"emb_params": vectors}, words / "glow.safetensors")
    save_file({"emb_params": vectors[:, :8]}, words / "narrow.safetensors")
    return base / "loras", words


@pytest.fixture(scope="module")
def pipe(folders):
    return Pipeline.load(GOLDEN / "sd1_tiny", loras=folders[0], embeddings=folders[1])


def test_tags_of_prompts():
    assert prompt_tags.split("a <b> c") == ("a <b> c", ())
    text, tags = prompt_tags.split("<lora:x:0.5>a lake<lora: y-2 > <lora:z:-1>")
    assert text == "a lake"
    assert tags == (("x", 0.5), ("y-2", 1.0), ("z", -1.0))
    for bad in ("<lora:>", "<lora:x:heavy>", "<lora:x:0.5:0.5>", "<lora:x:11>", "<lora:x:nan>"):
        with pytest.raises(ParameterError, match=r"prompt must name adapters as <lora:name:0.8>"):
            prompt_tags.split(bad)
    for kind in ("hypernet", "lyco"):
        with pytest.raises(ParameterError, match=f"prompt must not hold <{kind}:…>: .* <lora:…>"):
            prompt_tags.split(f"a lake <{kind}:x:1>")
        with pytest.raises(ParameterError, match=f"negative_prompt must not hold <{kind}:…>"):
            prompt_tags.refuse([f"<{kind}:x>"], "negative_prompt")
    assert prompt_tags.split(literal("a <lora:x:1> AND b")) == ("a < lora:x:1> and b", ())


def test_a_tag_is_what_with_lora_does(pipe, folders):
    plain = pipe("a lake", **FEW).latents
    tagged = pipe("a lake <lora:kohya:0.8>", **FEW)
    path = folders[0] / "styles" / "kohya.safetensors"
    np.testing.assert_array_equal(
        tagged.latents, pipe.with_lora(path, 0.8)("a lake", **FEW).latents
    )
    assert np.abs(tagged.latents - plain).max() > 1e-3
    assert tagged.prompts == ("a lake <lora:kohya:0.8>",)
    none = pipe("a lake <lora:kohya:0>", **FEW).latents
    np.testing.assert_allclose(none, plain, atol=1e-5)
    two = pipe("a lake <lora:kohya:0.3><lora:peft:0.5>", **FEW).latents
    np.testing.assert_allclose(two, tagged.latents, atol=2e-3)  # one adapter in two layouts


def test_images_of_one_call_may_have_different_adapters(pipe):
    prompts = ["a lake", "a lake <lora:kohya:1>", "a lake <lora:kohya:1>", "snow"]
    together = pipe(prompts, **FEW)
    for i, prompt in enumerate(prompts):
        alone = pipe(prompt, **{**FEW, "seed": 5 + i})
        np.testing.assert_allclose(alone.latents[0], together.latents[i], atol=2e-4)
    seen = []
    pipe(prompts, **FEW, progress=True, on_preview=seen.append, preview_every=1)
    steps = range(1, FEW["num_inference_steps"] + 1)
    assert [(p.first_image, p.step) for p in seen] == [(i, s) for i in (0, 1, 3) for s in steps]
    anagram = (("a lake <lora:kohya:1>", "identity"), ("snow", "rot180"))
    plain = tuple((text.partition(" <")[0], view) for text, view in anagram)
    assert (
        np.abs(pipe(anagram=anagram, **FEW).latents - pipe(anagram=plain, **FEW).latents).max()
        > 1e-3
    )


def test_another_weight_compiles_nothing(pipe):
    pipe("a lake <lora:kohya:0.4>", **FEW)
    compiled = []

    def listen(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(about)

    jax.monitoring.register_event_duration_secs_listener(listen)
    pipe("a lake <lora:kohya:0.7>", **FEW)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            "a <lora:nothing:1>",
            r"names the LoRA 'nothing', but there are broken, kohya, peft, wide",
        ),
        ("a <lora:wide:1>", r"names the LoRA 'wide', but .* does not fit the model"),
        ("a <lora:broken:1>", r"names the LoRA 'broken', but \S*broken.safetensors: truncated"),
        ("a narrow lake", r"embedding 'narrow', but .* width 8, this model's are 32"),
    ],
)
def test_what_is_not_there_or_does_not_fit(pipe, folders, prompt, message):
    with pytest.raises(ParameterError, match=message) as caught:
        pipe(prompt, **FEW)
    assert caught.value.name == "prompt"
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("/") <= str(folders[0]).count("/") + 2  # a path is named once


def test_adapters_act_on_the_whole_image(pipe):
    for name in ("negative_prompt", "source_prompt"):
        with pytest.raises(ParameterError, match=f"{name} must not hold <lora"):
            pipe("a lake", **{name: "<lora:kohya:1>"}, **FEW)


def test_an_embedding_is_a_word(pipe):
    encoder = pipe.adapters.with_words(pipe.text_encoder, ["A GLOW lake"])
    context = np.asarray(encoder.encode(["a glow lake", "a lake"]).context)
    plain = np.asarray(pipe.text_encoder.encode(["a lake"]).context)
    np.testing.assert_allclose(context[1], plain[0], atol=1e-5)
    ids = encoder.encoders.towers[0].chunks("a Glow lake")[0].ids
    size = encoder.encoders.towers[0].tokenizer.get_vocab_size()
    assert [i >= size for i in ids[:5]] == [False, False, True, True, False]
    offsets = encoder.offsets(["a Glow lake"])[0]
    assert offsets[2:4].tolist() == [[2, 6], [2, 6]]
    made, other = pipe("a glow lake", **FEW).latents, pipe("a lake", **FEW).latents
    assert np.abs(made - other).max() > 1e-3
    assert pipe.adapters.with_words(pipe.text_encoder, ["afterglow"]) is pipe.text_encoder


def test_the_demo_s_own_adapters_go_by_the_prompt_too(folder, tmp_path):
    base = Pipeline.load(folder)
    config = LoraConfig(rank=2)
    adapters = own_lora.create(base.model.params["ema"], config, 0, "unet")
    changed = {k: {"a": v["a"], "b": v["b"] + 0.3} for k, v in adapters.items()}
    own_lora.save(tmp_path / "ink.safetensors", changed, config, "unet")
    pipe = Pipeline.load(folder, loras=tmp_path)
    tagged = pipe("a lake <lora:ink:0.5>", num_inference_steps=2)
    expected = base.with_lora(tmp_path / "ink.safetensors", 0.5)("a lake", num_inference_steps=2)
    np.testing.assert_array_equal(tagged.latents, expected.latents)
    with pytest.raises(ParameterError, match="there are none"):
        base("a lake <lora:ink:0.5>")


def test_weights_of_models_are_not_listed(tmp_path):
    for path in ("red.safetensors", "below/blue.safetensors", "sd/unet/weights.safetensors"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        save_file({"x": np.zeros(1)}, tmp_path / path)
    (tmp_path / "sd/unet/config.json").write_text("{}")
    assert list(Library(tmp_path).loras()) == ["blue", "red"]

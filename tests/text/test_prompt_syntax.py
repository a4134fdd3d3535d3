"""The prompt syntax against what users of the web UI know, and its effect on embeddings."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from dg2_jax.interop.hf_text import load_tokenizer, minilm_folder
from dg2_jax.text import prompt_syntax
from dg2_jax.text.encoder import TextEncoder
from dg2_jax.text.prompt_syntax import Span, SubPrompt, apply_weights, parse, token_weights


def weighted(prompt):
    """[(text, weight), ...] of a prompt without AND, as A1111's own parser reports it."""
    (part,) = parse(prompt)
    pieces, at = [], 0
    for start, end, weight in part.spans:
        pieces += [(part.text[at:start], 1.0)] * (start > at)
        pieces.append((part.text[start:end], weight))
        at = end
    return pieces + [(part.text[at:], 1.0)] * (at < len(part.text) or not pieces)


# The first seven are the examples in the documentation of A1111's parser, its numbers rounded.
@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("", [("", 1.0)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
        ("[quiet] [[quieter]]", [("quiet", 0.909091), (" ", 1.0), ("quieter", 0.826446)]),
        ("(word:1.2)", [("word", 1.2)]),
        ("(word : 0 )", [("word ", 0.0)]),
        ("([word])", [("word", 1.0)]),
        ("a smile :) or :]", [("a smile :) or :]", 1.0)]),
        ("the clock says 12:30", [("the clock says 12:30", 1.0)]),
        ("(a: b)", [("a: b", 1.1)]),
        (r"back\slash \\ \(1:2\)", [(r"back\slash \ (1:2)", 1.0)]),
        ("sand and water", [("sand and water", 1.0)]),
        ("(山:1.5) and sea", [("山", 1.5), (" and sea", 1.0)]),
        ("()", [("", 1.0)]),
    ],
)
def test_emphasis_is_as_users_know_it(prompt, expected):
    assert weighted(prompt) == expected


def test_prompts_joined_by_and():
    assert parse("a castle AND a lake :0.7") == [SubPrompt("a castle"), SubPrompt("a lake", 0.7)]
    assert parse("a AND b:2 AND  c : -0.5 ") == [
        SubPrompt("a"),
        SubPrompt("b", 2.0),
        SubPrompt("c", -0.5),
    ]
    assert parse(" a (red:1.5) sky:1 AND (all)") == [
        SubPrompt("a red sky", 1.0, (Span(2, 5, 1.5),)),
        SubPrompt("all", 1.0, (Span(0, 3, 1.1),)),
    ]
    assert parse("at 12:30 :1 AND b")[0] == SubPrompt("at 12:30", 1.0)
    assert parse("SANDY LANDS") == [SubPrompt("SANDY LANDS")]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("(word:2.5)", "from 0 to 2, not '2.5'"),
        ("(word:-1)", "from 0 to 2, not '-1'"),
        ("(word:1.2.3)", "not '1.2.3'"),
        ("((((((((word))))))))", "weight of 'word' is 2.14"),
        ("((a) b:2)", "weight of 'a' is 2.2"),
        ("(" * 9000 + "a", "weight of 'a' is inf"),
        ("(" * 9000 + "a" + ")" * 8999 + ":0)", "weight of 'a' is nan"),
        ("a (word:1.2", "does not close"),
        ("a word:1.2) b", "no opening bracket"),
        ("[word:1.2)", "no opening bracket"),
        ("[word:1.2]", "must not edit the prompt"),
        ("[a:b:0.5]", "must not edit the prompt"),
        ("[a|b]", "must not edit the prompt"),
        ("(a AND b)", "AND outside of brackets"),
        ("[a AND b", "AND outside of brackets"),
        ("a AND ", "text on either side of AND"),
        ("a AND :0.7", "text on either side of AND"),
        ("AND", "text on either side of AND"),
        ("a AND () AND b", "text on either side of AND"),
        ("a AND b:3", "from -2 to 2, not '3'"),
        ("a AND at 12:30", "from -2 to 2, not '30'"),
        ("a AND b AND c AND d AND e", "at most 4 texts"),
        ("(word:1,3)", "numbers as weights, not '.word:1,3.'"),
        ("(a lake:abc)", "numbers as weights"),
        ("((a:b):1.2)", "numbers as weights"),
    ],
)
def test_what_cannot_be_meant_is_an_error(prompt, message):
    with pytest.raises(ValueError, match=f"^prompt.*({message})"):
        parse(prompt)


def test_the_message_names_the_parameter():
    with pytest.raises(
        ValueError, match=r"^negative_prompt must have weights from 0 to 2, not '9'"
    ):
        parse("(word:9)", name="negative_prompt")


def test_full_width_brackets_act_and_escaped_colons_do_not():
    assert parse("（a：1.3） lake") == parse("(a:1.3) lake")
    assert parse("［a］") == parse("[a]")
    assert parse("a：b") == [SubPrompt("a：b")]
    assert parse(r"(ratio 16\:9)") == [SubPrompt("ratio 16:9", 1.0, (Span(0, 10, 1.1),))]
    assert parse("(a lake: at dawn)")[0].text == "a lake: at dawn"


PLAIN = st.text(st.characters(exclude_characters="()[]（）［］\\")).filter(lambda s: "AND" not in s)


@given(PLAIN)
def test_plain_text_is_returned_unchanged(text):
    assert parse(text) == [SubPrompt(text)]


@given(st.text("()[]\\:.1 aAND|", max_size=40))
@settings(max_examples=300)
def test_any_text_is_parsed_or_refused_by_name(text):
    try:
        parts = parse(text)
    except ValueError as error:
        assert str(error).startswith("prompt")  # noqa: PT017
        return
    for part in parts:
        ends = [0, *(i for span in part.spans for i in span[:2]), len(part.text)]
        assert ends == sorted(ends)
        assert all(0.0 <= span.weight <= 2.0 and span.weight != 1.0 for span in part.spans)


@given(st.lists(st.tuples(PLAIN.filter(bool), st.integers(0, 200)), max_size=5))
def test_what_is_written_is_read(pieces):
    prompt = "".join(f"({text}:{hundredths / 100})" for text, hundredths in pieces)
    (part,) = parse(prompt)
    assert part.text == "".join(text for text, _ in pieces)
    expected = [hundredths / 100 for text, hundredths in pieces for _ in text]
    got = np.ones(len(part.text))
    for start, end, weight in part.spans:
        got[start:end] = weight
    np.testing.assert_allclose(got, expected)


@given(PLAIN)
def test_escaped_text_is_literal(text):
    brackets = f"({text}) [{text}]"
    escaped = brackets
    for character in "()[]":
        escaped = escaped.replace(character, "\\" + character)
    assert parse(escaped) == [SubPrompt(brackets)]


def test_token_weights_are_means_over_characters():
    offsets = np.array([[0, 0], [0, 4], [4, 8], [9, 12], [0, 0]])
    spans = (Span(2, 4, 2.0), Span(4, 8, 0.5))
    got = token_weights(offsets, spans)
    np.testing.assert_array_equal(got, np.float32([1.0, 1.5, 0.5, 1.0, 1.0]))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(token_weights(offsets[None], ()), np.ones((1, 5)))


def offsets_only(max_length, long_prompts="cut"):
    """MiniLM's tokenizer without a network behind it."""

    def forward(*args):
        raise AssertionError("nothing is to be encoded")

    tokenizer = load_tokenizer(minilm_folder(), 30522)
    return TextEncoder(
        "tokens", 4, max_length, tokenizer, 0, forward, {}, (max_length,), long_prompts
    )


def weights_by_token(encoder, prompt):
    """The tokens of a prompt, as MiniLM spells them, and their weights."""
    (part,) = parse(prompt)
    ids, mask = encoder.tokenize([part.text])
    weights = token_weights(encoder.offsets([part.text]), part.spans)
    assert weights.shape == mask.shape
    np.testing.assert_array_equal(weights[~mask], 1.0)
    real = zip(ids[mask], weights[mask], strict=True)
    return [(encoder.tokenizer.id_to_token(int(i)), round(float(w), 4)) for i, w in real]


def test_spans_meet_the_tokens_of_minilm():
    encoder = offsets_only(24)
    assert weights_by_token(encoder, "a (red:1.5) Volcano, [erupting] (fjordlike:0.3)") == [
        ("[CLS]", 1.0),
        ("a", 1.0),
        ("red", 1.5),
        ("volcano", 1.0),
        (",", 1.0),
        ("er", 0.9091),
        ("##upt", 0.9091),
        ("##ing", 0.9091),
        ("fjord", 0.3),
        ("##like", 0.3),
        ("[SEP]", 1.0),
    ]
    # Characters, not bytes, and the accents that MiniLM drops do not move the rest.
    assert weights_by_token(encoder, "Ünïcôdé (é:1.5) 山 (x:0.5)")[-4:] == [
        ("e", 1.5),
        ("山", 1.0),
        ("x", 0.5),
        ("[SEP]", 1.0),
    ]


def test_offsets_follow_the_tokens_where_a_prompt_is_cut_or_in_chunks():
    prompt = "one two three four (five:1.5) six seven (eight:0.5)"
    with pytest.warns(UserWarning, match="ignored: 'five six seven eight'"):
        assert [w for _, w in weights_by_token(offsets_only(6), prompt)] == [1.0] * 6
    got = weights_by_token(offsets_only(6, "chunk"), prompt)
    assert [(t, w) for t, w in got if w != 1.0] == [("five", 1.5), ("eight", 0.5)]
    assert [t for t, _ in got].count("[CLS]") == 2
    assert offsets_only(6, "chunk").offsets(["", "one two three four five"]).shape == (2, 12, 2)


def embeddings(seed=0):
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(3, 6, 5)).astype(np.float32)
    mask = np.arange(6) < np.array([6, 4, 1])[:, None]
    return jnp.asarray(context), jnp.asarray(mask)


def test_weights_of_one_change_nothing():
    context, mask = embeddings()
    got = jax.jit(apply_weights)(context, jnp.ones((3, 6)), mask)
    np.testing.assert_array_equal(got, context)


def test_weights_scale_about_the_mean_of_the_real_tokens():
    context, mask = embeddings()
    weights = np.random.default_rng(1).uniform(0.0, 2.0, size=(3, 6)).astype(np.float32)
    weights[0] = 0.5
    got = np.asarray(apply_weights(context, jnp.asarray(weights), mask))
    for i, count in enumerate([6, 4, 1]):
        e = np.asarray(context[i, :count], np.float64)
        expected = e.mean(0) + weights[i, :count, None] * (e - e.mean(0))
        np.testing.assert_allclose(got[i, :count], expected, atol=1e-5)
        np.testing.assert_array_equal(got[i, count:], context[i, count:])
    np.testing.assert_allclose(got[0].mean(0), np.asarray(context[0]).mean(0), atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "a lake",
        "a (red lake",
        "[from:to:0.5]",
        "x) :0.7",
        "a\\b (c:1.3)",
        "[a|b]",
        "a lake :0.7",
        "a:2",
    ],
)
def test_a_literal_is_the_text_itself(text):
    (part,) = prompt_syntax.parse(prompt_syntax.literal(text))
    assert part.text == text
    assert not part.spans

"""What the compiled program makes of the texts."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.generation import program, tasks
from dg2_jax.generation.program import Program, Weights
from dg2_jax.generation.text import Text, TextInputs
from dg2_jax.nn.modules import split


class Listening(nnx.Module):
    """A network whose keys and values are what it was told, times its only parameter."""

    def __init__(self, factor, null):
        self.factor, self.null = nnx.Param(jnp.asarray(factor)), null

    def null_context(self, batch, length=1):
        if self.null is None:
            return None
        context = jnp.full((batch, length, 2), self.null)
        return context, jnp.arange(length)[None] < jnp.ones((batch, 1))

    def project_context(self, context, mask, pooled=None, time_ids=None):
        return self.factor * context, mask, self.factor * pooled


def text(first):
    """Two texts of three tokens; the second is the null text."""
    context = first + jnp.arange(12.0).reshape(2, 3, 2)
    mask = jnp.array([[True, True, False]] * 2)
    return Text(context, mask, first + jnp.arange(8.0).reshape(2, 4), jnp.array([False, True]))


TEXTS = TextInputs(text(100.0), text(200.0))


def conditioning(guidance, null=None, worse=False):
    (network, once), (weaker, twice) = (split(Listening(f, null)) for f in (1.0, 2.0))
    static = Program(network, "sample", tasks.Plain(), guidance, weaker if worse else None)
    return program.conditioning(static, Weights(once, twice if worse else None), TEXTS)


def test_networks_are_given_the_sentence_vectors_of_both_prompts():
    context, _, pooled = conditioning("always")
    both = [TEXTS.prompt, TEXTS.negative_prompt]
    np.testing.assert_array_equal(pooled, jnp.concatenate([t.pooled for t in both]))
    np.testing.assert_array_equal(context, jnp.concatenate([t.context for t in both]))


def test_without_guidance_the_negative_prompts_are_not_projected():
    context, mask, pooled = conditioning("off")
    np.testing.assert_array_equal(pooled, TEXTS.prompt.pooled)
    assert len(context) == len(mask) == 2


def test_a_learnt_null_text_stands_where_there_is_no_text():
    context, mask, _ = conditioning("off", null=-1.0)
    np.testing.assert_array_equal(context[0], TEXTS.prompt.context[0])
    np.testing.assert_array_equal(context[1], np.full((3, 2), -1.0))
    np.testing.assert_array_equal(mask, [[True, True, False], [True, False, False]])


@pytest.mark.parametrize("guidance", ["off", "always"])
def test_autoguidance_projects_the_texts_with_either_network(guidance):
    good, worse = conditioning(guidance, worse=True)
    np.testing.assert_array_equal(2.0 * good[0], worse[0])
    np.testing.assert_array_equal(2.0 * good[2], worse[2])

r"""The prompt syntax of the web UIs: emphasis, and prompts joined by AND.

    (word)       weight 1.1       (word:1.3)   weight 1.3, from 0 to 2
    [word]       weight 1/1.1     \( \) \[ \] \\   the character itself; \{ \} \| \_ too, which
                                                   `wildcards` would read
    a castle AND a lake :0.7      two prompts, of weights 1 and 0.7 (from -2 to 2)

Weights of nested brackets multiply. As in AUTOMATIC1111's web UI, a closing bracket that was not
opened is text, an opening one that is not closed acts to the end, and AND is written in capitals.
The full-width brackets and colon of East Asian keyboards act as the plain ones. Prompts that would
silently mean something else are errors: a number whose brackets do not match, a colon and one word
that is no number at the end of a bracket, AND within brackets, and prompt editing ([from:to:when],
[a|b]). Where that colon is meant, it is written \:.
"""

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dg2_jax.checks import ParameterError
from dg2_jax.typing import Context, ContextMask

EMPHASIS = 1.1
MAX_WEIGHT = 2.0
MAX_PROMPTS = 4

_NUMBER = r":\s*([+-]?[0-9.]+)\s*"
_BRACKET = re.compile(r"[()\[\]（）［］]")
_PLAIN = str.maketrans("（）［］：", "()[]:")
_NO_NUMBER = re.compile(r":(?:\s*[+-]?\d)?[^\s:()]+\s*$")
_SPECIAL = re.compile(rf"\\([()\[\]{{}}|_:\\])|{_NUMBER}\)|\bAND\b|[()\[\]]")
_ENDS_IN_NUMBER = re.compile(rf"\s*{_NUMBER}$")
_HAS_NUMBER = re.compile(r":\s*[+-]?[0-9.]")
_OPENED_BY = {")": "(", "]": "["}
_FACTOR = {"(": EMPHASIS, "[": 1.0 / EMPHASIS}


class Span(NamedTuple):
    """The characters start ≤ i < end of a text, and their weight."""

    start: int
    end: int
    weight: float


class SubPrompt(NamedTuple):
    """A prompt without its syntax.

    Attributes:
        text: to encode.
        weight: of the whole among prompts joined by AND (aᵢ of `guidance.adaptive_projected`).
        spans: the parts of `text` whose weight is not 1, in order, not overlapping.
    """

    text: str
    weight: float = 1.0
    spans: tuple[Span, ...] = ()


def parse(prompt: str, name: str = "prompt") -> list[SubPrompt]:
    r"""The prompts joined by AND (one, if there is no AND), with the syntax removed.

    >>> castle, lake = parse("a (red:1.5) castle AND a lake :0.7")
    >>> castle
    SubPrompt(text='a red castle', weight=1.0, spans=(Span(start=2, end=5, weight=1.5),))
    >>> lake
    SubPrompt(text='a lake', weight=0.7, spans=())

    A prompt without brackets, backslashes and AND is returned unchanged. Prompts joined by AND lose
    the white space around them.

    Args:
        prompt: as written by the user.
        name: of the parameter, for the messages.

    Raises:
        ParameterError: a weight that is not a number or out of range, alone or multiplied by nested
            brackets; a number in brackets that do not match; AND within brackets, or without a text
            on either side; more than 4 prompts; or prompt editing.
    """
    parts = _scan(prompt, name)
    if len(parts) == 1:
        return [_sub_prompt(parts[0].text, parts[0].weights, 1.0, name)]
    if len(parts) > MAX_PROMPTS:
        allowed = f"at most {MAX_PROMPTS} texts with AND, not {len(parts)}"
        raise ParameterError(name, f"may join {allowed}")
    return [_joined(part.text, part.weights, name) for part in parts]


def literal(text: str) -> str:
    r"""The prompt that means a text without any syntax; AND becomes "and", "<a:" "< a:".

    >>> literal("a lake (at dawn")
    'a lake \\(at dawn'
    """
    text = re.sub(r"([()\[\]（）［］{}\\]|_(?=_))", r"\\\1", text)
    return re.sub(r"<(?=\w+:)", "< ", re.sub(r"\bAND\b", "and", text))


def token_weights(
    offsets: Int[np.ndarray, "*tokens 2"], spans: Sequence[Span]
) -> Float[np.ndarray, "*tokens"]:
    """The weight of each token: the mean over its characters.

    Args:
        offsets: first character and last + 1 of each token in the text of `spans`, as from
            `TextEncoder.offsets`; (0, 0) for start, end and padding, whose weight is 1.
        spans: of a `SubPrompt`.

    Returns:
        float32; exactly 1 for a token that no span touches.
    """
    first, last = offsets[..., 0], offsets[..., 1]
    weights = np.ones(first.shape)
    for start, end, weight in spans:
        shared = np.minimum(last, end) - np.maximum(first, start)
        weights += (weight - 1.0) * np.maximum(shared, 0) / np.maximum(last - first, 1)
    return weights.astype(np.float32)


def apply_weights(context: Context, weights: Float[Array, "b l"], mask: ContextMask) -> Context:
    """Token embeddings scaled about the prompt's mean token.

        eᵢ ← eᵢ + (wᵢ - 1)(eᵢ - m),   m = meanⱼ eⱼ over the tokens that the mask admits

    The weight multiplies what sets a token apart from the rest of its prompt: 0 leaves it nothing
    of its own, though the encoder has already passed some of it to its neighbours. Scaling about 0
    and then restoring the overall mean, as web UIs do for CLIP, does not work here: m is most of a
    MiniLM token, and the overall mean is so close to 0 that the quotient can have any sign. Padding
    does not change, and with all weights 1 the context is returned exactly.

    Args:
        context: token embeddings.
        weights: of each token, see `token_weights`.
        mask: True where a token is real.
    """
    real = mask[:, :, None].astype(context.dtype)
    count = jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1.0)
    mean = jnp.sum(real * context, axis=1, keepdims=True) / count
    return context + real * (weights[:, :, None] - 1.0) * (context - mean)


class _Part:
    """A text read so far, without brackets, with the weight of each character."""

    def __init__(self, name: str):
        self.name = name
        self.text = ""
        self.weights: list[float] = []
        self.opened: dict[str, list[int]] = {"(": [], "[": []}  # where in `text`
        self.escaped: set[int] = set()  # likewise

    def error(self, problem: str, character: str) -> ParameterError:
        how = f"a weight is written '(word:1.2)', and the character itself \\{character}"
        return ParameterError(self.name, f"{problem}; {how}")

    def append(self, characters: str) -> None:
        self.text += characters
        self.weights += [1.0] * len(characters)

    def open(self, bracket: str) -> None:
        self.opened[bracket].append(len(self.text))

    def close(self, bracket: str) -> None:
        start = self.opened[bracket].pop()
        inside = self.text[start:]
        if bracket == "[" and ("|" in inside or _ENDS_IN_NUMBER.search(inside)):
            problem = f"must not edit the prompt between steps, as {f'[{inside}]'!r:.80} does"
            raise self.error(problem, "[")
        colon = _NO_NUMBER.search(inside) if bracket == "(" else None
        if colon is not None and start + colon.start() not in self.escaped:
            raise self.error(f"must have numbers as weights, not {f'({inside})'!r:.80}", ":")
        self._multiply(start, _FACTOR[bracket])

    def close_with(self, number: str) -> None:
        if not self.opened["("]:
            raise self.error(f"has no opening bracket for the weight ':{number})'", ")")
        self._multiply(self.opened["("].pop(), _number(number, 0.0, self.name))

    def finish(self) -> None:
        """Brackets that are still open act to the end."""
        for start in self.opened["("]:
            if _HAS_NUMBER.search(self.text, start):
                weight = "(" + self.text[start:]
                raise self.error(f"does not close the bracket of a weight: {weight!r:.80}", "(")
        for bracket, starts in self.opened.items():
            for start in starts:
                self._multiply(start, _FACTOR[bracket])

    def _multiply(self, start: int, factor: float) -> None:
        self.weights[start:] = [weight * factor for weight in self.weights[start:]]


def _scan(prompt: str, name: str) -> list[_Part]:
    """The parts between the ANDs."""
    if _BRACKET.search(prompt):
        prompt = prompt.translate(_PLAIN)
    parts, position = [_Part(name)], 0
    for match in _SPECIAL.finditer(prompt):
        part, token, (escaped, number) = parts[-1], match.group(), match.groups()
        part.append(prompt[position : match.start()])
        position = match.end()
        if escaped:
            part.escaped.add(len(part.text))
            part.append(escaped)
        elif number:
            part.close_with(number)
        elif token == "AND":
            if any(part.opened.values()):
                raise ParameterError(name, "must have AND outside of brackets")
            parts.append(_Part(name))
        elif token in part.opened:
            part.open(token)
        elif part.opened[_OPENED_BY[token]]:
            part.close(_OPENED_BY[token])
        else:
            part.append(token)
    parts[-1].append(prompt[position:])
    for part in parts:
        part.finish()
    return parts


def _joined(text: str, weights: list[float], name: str) -> SubPrompt:
    """One of several prompts: its own weight is the number at its end."""
    end, weight = len(text), 1.0
    if match := _ENDS_IN_NUMBER.search(text):
        end, weight = match.start(), _number(match.group(1), -MAX_WEIGHT, name)
    start = len(text[:end]) - len(text[:end].lstrip())
    end = len(text[:end].rstrip())
    if start >= end:
        raise ParameterError(name, "must have a text on either side of AND")
    return _sub_prompt(text[start:end], weights[start:end], weight, name)


def _sub_prompt(text: str, weights: list[float], weight: float, name: str) -> SubPrompt:
    spans, start = [], 0
    # Rounded, so that ([word]) equals the plain word.
    for value, run in itertools.groupby(round(w, 6) for w in weights):
        end = start + len(list(run))
        if not value <= MAX_WEIGHT:
            allowed = f"must have weights from 0 to {MAX_WEIGHT:g}"
            told = f"the weight of {text[start:end]!r:.80} is {value:g}"
            raise ParameterError(name, f"{allowed}: {told}")
        if value != 1.0:
            spans.append(Span(start, end, value))
        start = end
    return SubPrompt(text, weight, tuple(spans))


def _number(text: str, low: float, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= MAX_WEIGHT:
        allowed = f"must have weights from {low:g} to {MAX_WEIGHT:g}"
        raise ParameterError(name, f"{allowed}, not {text!r:.80}")
    return value

"""From scores to a choice: what a match returns, probabilities at a temperature, diversity.

Raw cosines of the best k prompts lie within a hundredth of each other, so a softmax of them is
nearly uniform at any temperature. Two steps mend that: scores are cosines of *centred* vectors (the
bank's mean removed, so that what all prompts share does not count), and the softmax is taken over
the k scores in units of their own standard deviation.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

_SAME = 1e-6  # scores closer than this differ by rounding only


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt of the bank that is close to the user's.

    Attributes:
        id: for `Bank.remove`.
        prompt: its text.
        category: its category.
        split: "train" or "validation".
        score: cosine with the user's prompt after centring, -1..1.
        probability: of being chosen, unless the user's own prompt is kept.
    """

    id: str
    prompt: str
    category: str
    split: str
    score: float
    probability: float


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """The outcome of `Bank.match`.

    Attributes:
        prompt: what to use: the chosen prompt, or the user's own.
        chosen: the candidate drawn; None if the user's own prompt is kept.
        candidates: the k nearest, best first (with diversity: as they were picked).
        seed: of the draw.
    """

    prompt: str
    chosen: Candidate | None
    candidates: tuple[Candidate, ...]
    seed: int

    @property
    def effective_choices(self) -> float:
        """exp(entropy) of the candidates' probabilities: 1 to k, 0 without candidates."""
        if not self.candidates:
            return 0.0
        return effective_choices([c.probability for c in self.candidates])


def probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of z-scores, p_i ∝ exp(z_i / T) with z = (s - mean(s)) / std(s).

    The effective number of choices, exp(entropy of p), grows with T: with β = 1/T, d(entropy)/dβ =
    -β Var_p(z), below zero unless all z are equal. It is 1 at T = 0 and k as T → ∞.

    Args:
        scores: (k,) of the candidates.
        temperature: T in 0..inf; 0 puts everything on the best (the first of equals), inf spreads
            it evenly.

    Returns:
        (k,) float64, summing to 1. Scores that are all equal give 1/k at any T above 0.
    """
    scores = np.asarray(scores, np.float64)
    if temperature == 0:
        return np.eye(len(scores))[np.argmax(scores)]
    spread = scores.std()
    z = (scores - scores.max()) / spread if spread > _SAME else np.zeros_like(scores)
    with np.errstate(over="ignore"):  # a tiny temperature: exp(-inf) = 0 is right
        weights = np.exp(z / temperature)
    return weights / weights.sum()


def effective_choices(probabilities: Sequence[float] | np.ndarray) -> float:
    """exp(entropy): 1 for a certain choice, k for an even one among k."""
    p = np.asarray(probabilities, np.float64)
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def diversify(scores: np.ndarray, vectors: np.ndarray, k: int, diversity: float) -> list[int]:
    """Chooses k of n candidates by maximal marginal relevance (Carbonell and Goldstein, 1998).

    The next is always the one with the largest (1 - λ) score_i - λ max_j <v_i, v_j>, j over those
    already chosen; the first is the one with the best score.

    Args:
        scores: (n,) of the candidates, best first.
        vectors: (n, D) of length 1.
        k: how many to choose.
        diversity: λ in 0..1; 0 is the k best.

    Returns:
        Their positions, in the order they were chosen.
    """
    chosen = [0]
    nearest = vectors @ vectors[0]
    while len(chosen) < min(k, len(scores)):
        gain = (1 - diversity) * scores - diversity * nearest
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    return chosen

"""The bank itself: match a prompt, draw one at random, add, remove and save.

    bank = Bank.load()
    bank.match("a volcano").prompt
    bank.random_prompt("aurora", seed=7)

`Bank.load(user="outputs/my_bank")` adds the user's own folder, which `save` writes; the shipped
files are never touched.
"""

import secrets
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.bank import builder, checks, dg2, matching, store
from dg2_jax.bank.matching import Candidate, Match
from dg2_jax.bank.search import FLAT_LIMIT, VectorIndex
from dg2_jax.checks import ParameterError
from dg2_jax.text.loading import load_text_encoder

MIN_SIMILARITY = 0.37  # see README.md for how it was chosen
_SEEDS = 2**32


class Bank:
    """Prompts by category and split, with their vectors. Safe to share between threads.

    Make one with `Bank.load`.
    """

    def __init__(
        self,
        shipped: store.StoredBank,
        user: Path | None = None,
        encoder: Any = None,
        flat_limit: int = FLAT_LIMIT,
    ):
        self._lock = threading.RLock()
        self._encoder_name, self._encoder = shipped.encoder, encoder
        self._shipped = {entry.id for entry in shipped.entries}
        self._removed: set[str] = set()  # of the shipped ones
        self._entries: dict[str, store.Entry] = {}
        self._groups: dict[tuple[str, str], dict[str, None]] = {}  # ids by (split, category)
        self._own: dict[str, np.ndarray] = {}  # float16 vectors of the user's entries
        self._centre = shipped.centre()  # additions do not move it, so scores stay comparable
        dimension = shipped.vectors.shape[1]
        self._indexes = {split: VectorIndex(dimension, flat_limit) for split in store.SPLITS}
        self._folder, self._saved = user, None
        self._insert(shipped.entries, shipped.vectors)
        if user is not None and (saved := store.digest(user)) is not None:
            self._saved = saved
            self._add_stored(store.read(user), user)

    @classmethod
    def load(
        cls,
        folder: str | Path = builder.SHIPPED,
        *,
        user: str | Path | None = None,
        encoder: Any = None,
        flat_limit: int = FLAT_LIMIT,
    ) -> "Bank":
        """Loads a bank.

        Args:
            folder: an index that `python -m bank.build` wrote, by default the one that ships; or
                DiffusionGen2's bank, a `.pt` file or a folder of its two.
            user: a folder for the user's own additions and removals; it need not exist yet.
            encoder: the `TextEncoder` of the index, to share one that is already loaded. None loads
                it when it is first needed.
            flat_limit: the largest number of prompts per split that are searched exhaustively.

        Raises:
            FileNotFoundError: if there is no index at `folder`.
            ValueError: if files are damaged, or `encoder` or `user` belong to another encoder.
        """
        theirs = dg2.files(Path(folder))
        stored = dg2.read(theirs) if theirs else store.read(Path(folder))
        if encoder is not None and encoder.name != stored.encoder:
            raise ValueError(
                f"encoder must be {stored.encoder!r}, which the bank was built with, "
                f"not {encoder.name!r}"
            )
        return cls(stored, None if user is None else Path(user), encoder, flat_limit)

    def __len__(self) -> int:
        return len(self._entries)

    def categories(self, split: str | None = None) -> list[str]:
        """Names of the categories, sorted; of one split, or of all."""
        if split is not None:
            checks.split("split", split)
        with self._lock:
            return sorted({c for (s, c), ids in self._groups.items() if ids and split in (s, None)})

    def entries(self, category: str | None = None, split: str = "train") -> list[store.Entry]:
        """The prompts of a category (None: of all) and split, with their ids."""
        checks.split("split", split)
        with self._lock:
            return [self._entries[i] for i in self._ids(split, category, "split")]

    def match(
        self,
        prompt: str,
        k: int = 5,
        temperature: float = 1.0,
        bank: str = "train",
        category: str | None = None,
        diversity: float = 0.0,
        min_similarity: float = MIN_SIMILARITY,
        seed: int | None = None,
    ) -> Match:
        """Finds prompts close in meaning and chooses one of them.

        Args:
            prompt: the user's, of at most 4000 characters.
            k: number of candidates, 1..1000; there are fewer where the bank has fewer.
            temperature: 0 takes the best, inf any of the k with equal probability; the effective
                number of choices grows in between (`dg2_jax.bank.matching.probabilities`).
            bank: the split to search, "train" or "validation".
            category: search only this one.
            diversity: 0..1, weight of being unlike the other candidates (`matching.diversify`).
            min_similarity: -1..1. If no candidate scores as much, the user's prompt is kept.
            seed: 0 or more; the same seed and bank give the same choice. None draws one.

        Raises:
            ValueError: naming the parameter.
        """
        checks.prompt("prompt", prompt)
        checks.integer("k", k, 1, 1000)
        checks.number("temperature", temperature, 0, float("inf"))
        checks.split("bank", bank)
        checks.number("diversity", diversity, 0, 1)
        checks.number("min_similarity", min_similarity, -1, 1)
        seed = secrets.randbelow(_SEEDS) if seed is None else checks.integer("seed", seed, 0)
        query = self._centred(self._embed([prompt]))[0]
        with self._lock:
            index = self._indexes[bank]
            among = None if category is None else store.numbers(self._ids(bank, category, "bank"))
            scores, numbers = index.search(query, 4 * k + 16 if diversity else k, among)
            if diversity and len(numbers):
                order = matching.diversify(scores, index.vectors(numbers), k, diversity)
                scores, numbers = scores[order], numbers[order]
            entries = [self._entries[store.id_of(number)] for number in numbers]
        p = matching.probabilities(scores, temperature) if entries else np.zeros(0)
        candidates = tuple(
            Candidate(e.id, e.prompt, e.category, e.split, float(score), float(share))
            for e, score, share in zip(entries, scores, p, strict=True)
        )
        chosen = None
        if entries and scores.max() >= min_similarity:
            chosen = candidates[np.random.default_rng(seed).choice(len(p), p=p)]
        return Match(prompt if chosen is None else chosen.prompt, chosen, candidates, seed)

    def random_prompt(
        self, category: str | None = None, split: str = "train", seed: int | None = None
    ) -> str:
        """A random prompt of a category (None: of all) and split, the same for the same seed.

        Raises:
            ValueError: naming the parameter; also if there is no such prompt.
        """
        checks.split("split", split)
        seed = secrets.randbelow(_SEEDS) if seed is None else checks.integer("seed", seed, 0)
        with self._lock:
            ids = self._ids(split, category, "split")
            if not ids:
                raise ParameterError("split", f"{split!r} has no prompts")
            return self._entries[ids[np.random.default_rng(seed).integers(len(ids))]].prompt

    def add(
        self,
        prompts: Sequence[str],
        category: str,
        split: str = "train",
        vectors: np.ndarray | None = None,
    ) -> list[str]:
        """Adds prompts, for this process until `save`. The category may be a new one.

        Args:
            prompts: n prompts of at most 4000 characters. Those already there stay as they are.
            category: its name.
            split: "train" or "validation".
            vectors: (n, D), their sentence vectors if they are known; None computes them.

        Returns:
            Their n ids, for `remove`.

        Raises:
            ValueError: naming the parameter.
        """
        category = checks.category(category)
        checks.split("split", split)
        if isinstance(prompts, str) or not prompts:
            raise ParameterError("prompts", "must be a list of at least one string")
        tidy = [" ".join(checks.prompt(f"prompts[{i}]", p).split()) for i, p in enumerate(prompts)]
        entries = [store.make_entry(prompt, category, split) for prompt in tidy]
        rows = self._embed(tidy) if vectors is None else np.asarray(vectors)
        checks.vectors("vectors", rows, (len(entries), len(self._centre)))
        with self._lock:
            fresh = {e.id: i for i, e in enumerate(entries) if e.id not in self._entries}
            half = rows[list(fresh.values())].astype(np.float16)
            self._insert([entries[i] for i in fresh.values()], half)
            self._own |= {i: v for i, v in zip(fresh, half, strict=True) if i not in self._shipped}
            self._removed -= set(fresh)
        return [entry.id for entry in entries]

    def remove(self, ids: Iterable[str]) -> None:
        """Removes prompts by id, shipped ones too (for this user: the shipped files stay).

        Raises:
            ValueError: if an id is not in the bank; then nothing is removed.
        """
        unwanted = dict.fromkeys([ids] if isinstance(ids, str) else ids)
        with self._lock:
            if missing := [i for i in unwanted if i not in self._entries]:
                raise ParameterError("ids", f"must be in the bank; these are not: {missing[:5]}")
            for split, index in self._indexes.items():
                index.remove(store.numbers(i for i in unwanted if self._entries[i].split == split))
            for i in unwanted:
                entry = self._entries.pop(i)
                del self._groups[entry.split, entry.category][i]
                self._own.pop(i, None)
            self._removed |= self._shipped & unwanted.keys()

    def save(self) -> None:
        """Writes the user's additions and removals into the `user` folder, whole or not at all.

        Raises:
            ValueError: if the bank was loaded without `user`.
            RuntimeError: if another process has written that folder meanwhile.
        """
        if self._folder is None:
            raise ValueError("user: the bank was loaded without a user folder to save into")
        with self._lock:
            if store.digest(self._folder) != self._saved:
                raise RuntimeError(f"{self._folder} was changed by another process: load it again")
            vectors = np.zeros((len(self._own), len(self._centre)), np.float16)
            vectors[:] = list(self._own.values()) or 0
            entries = [self._entries[i] for i in self._own]
            removed = sorted(self._removed)
            stored = store.StoredBank(self._encoder_name, entries, vectors, removed)
            self._saved = store.write(self._folder, stored)

    def _add_stored(self, stored: store.StoredBank, folder: Path) -> None:
        if stored.encoder != self._encoder_name:
            raise ValueError(
                f"user: {folder} was made with the encoder {stored.encoder!r}, "
                f"the bank with {self._encoder_name!r}"
            )
        checks.vectors("user", stored.vectors, (len(stored.entries), len(self._centre)))
        self.remove(i for i in stored.removed if i in self._entries)
        new = [i for i, entry in enumerate(stored.entries) if entry.id not in self._entries]
        self._insert([stored.entries[i] for i in new], stored.vectors[new])
        self._own |= {stored.entries[i].id: stored.vectors[i] for i in new}

    def _insert(self, entries: list[store.Entry], vectors: np.ndarray) -> None:
        centred = self._centred(vectors)
        for split, index in self._indexes.items():
            rows = [i for i, entry in enumerate(entries) if entry.split == split]
            index.add(store.numbers(entries[i].id for i in rows), centred[rows])
        for entry in entries:
            self._entries[entry.id] = entry
            self._groups.setdefault((entry.split, entry.category), {})[entry.id] = None

    def _ids(self, split: str, category: str | None, parameter: str) -> list[str]:
        """Ids of a group in the order they came; ParameterError if there is no such category."""
        if category is None:
            return [i for (s, _), ids in self._groups.items() if s == split for i in ids]
        if not (ids := self._groups.get((split, checks.category(category)))):
            raise ParameterError(
                "category",
                f"must be one of {', '.join(self.categories(split))} "
                f"({parameter} {split!r}), not {category!r}",
            )
        return list(ids)

    def _embed(self, prompts: list[str]) -> np.ndarray:
        with self._lock:
            if self._encoder is None:
                self._encoder = load_text_encoder(self._encoder_name)
        return builder.embed(self._encoder, prompts)

    def _centred(self, vectors: np.ndarray) -> np.ndarray:
        return _normalised(vectors.astype(np.float32) - self._centre)


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)

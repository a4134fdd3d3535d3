"""The models that workers have, for a process that has none."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dg2_jax.checks import check_choice
from dg2_jax.controls import model_facts
from dg2_jax.controls.model_facts import ModelFacts
from dg2_jax.serve import sizes
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.sizes import Size


class AnnouncedModels:
    """What `Models` tells, from what workers have announced (`Models.announced`).

    What was announced is known from then on, so that jobs can be asked for while all workers start
    anew.
    """

    def __init__(self, allowed_sizes: Sequence[str] = ()):
        self._sizes = allowed_sizes
        self._told: dict[str, dict[str, Any]] = {}
        self._default: str | None = None

    def update(self, announced: Sequence[Sequence[dict[str, Any]]]) -> None:
        """Takes what each of the living workers announces."""
        told: dict[str, dict[str, Any]] = {}
        for models in announced:
            for model in models:
                details = model["details"]
                known = told.setdefault(details["name"], model)["details"]
                known["loaded"] = known["loaded"] or details["loaded"]
        if told:
            defaults = [name for name, model in told.items() if model["details"]["default"]]
            self._told, self._default = told, next(iter(defaults), next(iter(told)))

    def check(self) -> None:
        """Nothing: the workers look at their own."""

    @property
    def default(self) -> str:
        """The default model's name.

        Raises:
            ProblemError: 503, no worker has announced any.
        """
        if self._default is None:
            raise ProblemError(503, "no worker has said yet which models it has", retry_after=10)
        return self._default

    @property
    def names(self) -> list[str]:
        """Of all models."""
        return list(self._told)

    def resolve(self, name: str | None, parameter: str = "model") -> str:
        """See `Models`."""
        if name is None:
            return self.default
        check_choice(parameter, name, self._told)
        return name

    @property
    def loaded_names(self) -> list[str]:
        """Of the models that some worker has in memory."""
        return [name for name, model in self._told.items() if model["details"]["loaded"]]

    def loaded(self, name: str) -> None:
        """None: no model is in this process."""

    def describe(self) -> list[dict[str, Any]]:
        """See `Models`."""
        names = sorted(self._told, key=lambda name: (name != self._default, name))
        return [self.details(name) for name in names]

    def details(self, name: str) -> dict[str, Any]:
        """See `Models`."""
        own = {"sizes": self.sizes(name), "hires_sizes": self.hires_sizes(name)}
        return {**self._told[name]["details"], **own, "default": name == self._default}

    def facts(self, name: str) -> ModelFacts | None:
        """See `Models`."""
        told = self._told[name]
        if told["config"] is None or told["details"]["size"] is None:
            return None
        facts = model_facts.from_config(name, told["config"])
        return dataclasses.replace(facts, size=told["details"]["size"])

    def sizes(self, name: str) -> list[Size]:
        """See `Models`."""
        facts = self.facts(name)
        return sizes.allowed(facts, self._sizes) if facts else []

    def hires_sizes(self, name: str) -> list[Size]:
        """See `Models`."""
        return sizes.of_second_pass(self.sizes(name), self._sizes)

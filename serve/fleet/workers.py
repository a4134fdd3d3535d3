"""The processes that compute, as they tell of themselves."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from dg2_jax.serve.fleet.news import NOW
from dg2_jax.serve.store import Store
from dg2_jax.serve.tables import WORKERS


class Workers:
    """They, in the database of a store on PostgreSQL.

    One that has told nothing for a lease is taken for dead.
    """

    def __init__(self, store: Store, lease_seconds: float):
        self._store = store
        self._since = NOW - lease_seconds

    def tell(self, name: str, about: dict[str, Any]) -> None:
        """What a worker is about: `ready` as `GET /ready`, `health`, and `models` tell it."""
        row = {"name": name, "seen_at": NOW, "about": json.dumps(about)}
        told = insert(WORKERS).values(row)
        values = {key: told.excluded[key] for key in ("seen_at", "about")}
        with self._store.transaction() as connection:
            connection.execute(told.on_conflict_do_update(index_elements=["name"], set_=values))

    def leave(self, name: str) -> None:
        """A worker ends."""
        with self._store.transaction() as connection:
            connection.execute(WORKERS.delete().where(WORKERS.c.name == name))

    def alive(self) -> list[dict[str, Any]]:
        """What those that live have told, by their names' order; forgets the others."""
        with self._store.transaction() as connection:
            connection.execute(WORKERS.delete().where(WORKERS.c.seen_at < self._since))
            query = sa.select(WORKERS.c.about).order_by(WORKERS.c.name)
            return [json.loads(about) for about in connection.scalars(query)]

"""What a service of many users needs: python -m scripts.sizing, prints the table of docs/sizing.md.

Arithmetic alone. The flags are how much users ask for, and what was measured of one device, one
machine with PostgreSQL and one process that answers, by the commands that docs/sizing.md names.
"""

import math

from absl import flags

from dg2_jax.scripts.command import command

_DAILY = flags.DEFINE_float("pictures_per_user", 10.0, "That a user makes in a day.")
_PEAK = flags.DEFINE_float("peak_share", 0.2, "Of a day's pictures, in its busiest hour.")
_EACH = flags.DEFINE_float("pictures_per_job", 4.0, "Of a request.")
_STEPS = flags.DEFINE_float("steps", 20.0, "Of a picture.")
_RATE = flags.DEFINE_float("pictures_per_second", 1.73, "Of a device with full batches.")
_BUSY = flags.DEFINE_float("busy", 0.7, "Share of the time for which devices compute at the peak.")
_COST = flags.DEFINE_float("picture_transactions", 14.5, "Of the database, with those of its job.")
_ROWS = flags.DEFINE_float("picture_rows", 12.3, "That the database writes, likewise.")
_SEEN = flags.DEFINE_float("step_transactions", 3.4, "Of the database, for a step with readers.")
_DATABASE = flags.DEFINE_float("database_limit", 855.0, "Transactions a second that it has done.")
_API = flags.DEFINE_float("api_limit", 2280.0, "Events a second that a process has handed out.")
_PICTURE = flags.DEFINE_float("picture_kb", 19.0, "Of a picture's file.")
_KEPT = flags.DEFINE_float("row_kb", 9.6, "That the database keeps of a picture and its job.")

_USERS = (10, 1_000, 100_000)
_TITLES = (
    "users", "pictures/s", "devices", "transactions/s", "of the measured", "rows/s", "events/s",
    "of the measured", "pictures a year", "database a year",
)  # fmt: skip
_EVENTS = 3  # of a job besides its steps and pictures: queued, started, done


def row(users: int) -> list[str]:
    """The needs of a number of users in the busiest hour, all of whom watch, and of a year."""
    pictures = users * _DAILY.value * _PEAK.value / 3600
    jobs = pictures / _EACH.value
    devices = max(1, math.ceil(pictures / (_RATE.value * _BUSY.value)))
    transactions = pictures * _COST.value + jobs * _STEPS.value * _SEEN.value
    events = jobs * (_STEPS.value + _EACH.value + _EVENTS)
    yearly = users * _DAILY.value * 365 / 1e6  # GB of a kB each
    return [
        f"{users:,}",
        _number(pictures),
        f"{devices:,}",
        _number(transactions),
        f"{transactions / _DATABASE.value:.1%}",
        _number(pictures * _ROWS.value),
        _number(events),
        f"{events / _API.value:.1%}",
        f"{yearly * _PICTURE.value:,.0f} GB",
        f"{yearly * _KEPT.value:,.1f} GB",
    ]


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def main() -> None:
    """Prints the table."""
    print(f"| {' | '.join(_TITLES)} |\n|{'--:|' * len(_TITLES)}")
    for users in _USERS:
        print(f"| {' | '.join(row(users))} |")


if __name__ == "__main__":
    command(main)

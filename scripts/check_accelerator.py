"""Whether an accelerator computes what the CPU does, and how fast.

    python -m scripts.check_accelerator                    # within 8 minutes, on one device
    python -m scripts.check_accelerator --quick            # a rehearsal, on any CPU
    python -m scripts.check_accelerator --parts=parity,steps --models=demo,sd15

Writes accelerator.json and accelerators.md to --out; docs/accelerators.md says how to read them.
Each part runs in a process of its own: one that fails or takes too long is reported, and the others
go on. Programs are compiled anew, whatever the cache holds. Nothing is fetched. Exits with 1 if a
part failed, or a result differs from the CPU's by more than it should.
"""

import json
import sys
from pathlib import Path
from typing import Any

from absl import flags

from dg2_jax.checks import check
from dg2_jax.scripts.accelerator import page, supervision
from dg2_jax.scripts.accelerator.options import MODELS, PARTS
from dg2_jax.scripts.command import command

_PARTS = flags.DEFINE_list("parts", [*PARTS], f"Of {', '.join(PARTS)}.")
_MODELS = flags.DEFINE_list("models", [*MODELS], f"Configurations: of {', '.join(MODELS)}.")
_QUICK = flags.DEFINE_bool("quick", False, "Small sizes and single runs: a rehearsal.")
_MINUTES = flags.DEFINE_float("minutes", 8.0, "That all parts together may take.", 0.1)
_OUT = flags.DEFINE_string("out", "outputs/accelerator", "The folder to write to.")


def run() -> None:
    """Runs the parts, and writes after each, so that nothing is lost if this is stopped."""
    for name, given, known in (("parts", _PARTS.value, PARTS), ("models", _MODELS.value, MODELS)):
        check(bool(given) and set(given) <= set(known), name, f"of {', '.join(known)}", given)
    out = Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    # What the device is belongs to every table.
    chosen = {name: share for name, share in PARTS.items() if name in ("device", *_PARTS.value)}
    flags_of_parts = [f"--models={','.join(_MODELS.value)}", f"--quick={_QUICK.value}"]
    found: dict[str, Any] = {
        "command": " ".join(["python -m scripts.check_accelerator", *sys.argv[1:]]),
        "quick": _QUICK.value,
        "parts": {},
    }
    of_part = supervision.of_this_python(flags_of_parts)
    for name, result in supervision.run(chosen, of_part, out, 60 * _MINUTES.value):
        found["parts"][name] = result
        (out / "accelerator.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        (out / "accelerators.md").write_text(page.markdown(found), "utf-8")
        failed = result.get("error") or f"{len(result['cases'])} cases"
        print(f"{name}: {result['seconds']:.0f} s, {failed}", file=sys.stderr, flush=True)
    print(page.markdown(found))
    sys.exit(1 if page.wrong(found) else 0)


if __name__ == "__main__":
    command(run)

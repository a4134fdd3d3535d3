"""accelerators.md: the tables of a check, from what accelerator.json holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dg2_jax.scripts.accelerator import peaks

Case = Mapping[str, Any]
Column = tuple[str, Callable[[Case], str]]  # its head, and a case's cell


def markdown(found: Mapping[str, Any]) -> str:
    """The page.

    Args:
        found: what scripts/check_accelerator.py writes as JSON.
    """
    parts = found["parts"]
    device = _cases(parts, "device")
    head = device[0] if device else {}
    lines = [f"# {head.get('device_kind', 'An unknown device')}", "", *_introduction(found, head)]
    kind = head.get("device_kind", "")
    for name, table in (
        ("device", _products(kind)),
        ("parity", _PARITY),
        ("steps", _steps(kind, device)),
        ("attention", _ATTENTION),
        ("training", _training(kind, device)),
        ("pictures", _PICTURES),
        ("batching", _BATCHING),
    ):
        if name in parts:
            lines += ["", f"## {_TITLES[name]}", "", *_section(name, parts[name], table)]
    return "\n".join([*lines, ""])


def wrong(found: Mapping[str, Any]) -> list[str]:
    """What is wrong: parts and cases that failed, and results that differ by too much."""
    problems = []
    for name, part in found["parts"].items():
        if "error" in part:
            problems.append(f"{name}: {part['error']}")
        for case in part["cases"]:
            if "error" in case and not isinstance(case["error"], float):
                problems.append(f"{name}: {_named(case)}: {case['error']}")
            elif not case.get("as_expected", True):
                problems.append(f"{name}: {_named(case)}: differs by more than it should")
    return problems


_TITLES = {
    "device": "Products of large matrices",
    "parity": "Results beside the CPU's",
    "steps": "Guided steps",
    "attention": "Attention",
    "training": "Training steps",
    "pictures": "Pictures of the embedded model",
    "batching": "A queue of pictures that differ",
}
_TEXTS = {
    "device": "Square matrices, the fastest that a program here can be.",
    "parity": "The root mean square of the error, of that of the result, against exact float32 on "
    "the CPU of this machine; for pictures the signal-to-noise ratio.",
    "steps": "One step of guided sampling of the whole batch, two evaluations of the network for "
    "each picture, as part of a compiled sampler. Memory is what the program needs at once.",
    "attention": "By itself, in a batch. The kernel is the one that the library's attention gets; "
    "cuDNN's column is the time of its flash attention, where it takes the shape.",
    "training": "Loss, gradient, optimiser and averages.",
    "pictures": "Whole calls of the pipeline: text, steps and decoding. The first call compiles.",
    "batching": "Pictures that differ in steps and solver, of which so many wait at any time.",
}


_VERSIONS = ("python", "jax", "jaxlib", "flax", "numpy")


def _introduction(found: Mapping[str, Any], head: Case) -> Iterator[str]:
    yield f"    {found['command']}"
    if found["quick"]:
        yield ""
        yield "**A rehearsal with small sizes: no figure here says anything about the device.**"
    if head.get("platform") == "cpu":
        yield ""
        yield "**No accelerator was found, so the CPU is compared with itself.**"
    if head:
        memory = f", {head['memory_limit_mib'] / 1024:.0f} GiB" if head["memory_limit_mib"] else ""
        yield ""
        yield (
            f"{head['device_kind']}{memory}, {head['cpus']} processor cores, "
            + ", ".join(f"{name} {head[name]}" for name in _VERSIONS)
            + f". {_rates(head['device_kind'])}"
        )
    problems = wrong(found)
    yield ""
    yield "Nothing is wrong." if not problems else "What is wrong:"
    if problems:
        yield ""
        yield from (f"- {_cell(problem)}" for problem in problems)


def _rates(kind: str) -> str:
    known = peaks.known(kind)
    if known is None:
        return "Its rates by data sheet are unknown here, so shares are of the product measured."
    named = ", ".join(
        f"{name} {'unknown' if rate is None else f'{rate:.0f}'}"
        for name, rate in known._asdict().items()
    )
    return f"By its data sheet, in TFLOP/s: {named}."


def _section(name: str, part: Mapping[str, Any], columns: Sequence[Column]) -> Iterator[str]:
    yield _TEXTS[name]
    cases = [c for c in part["cases"] if _is_measured(c) and "platform" not in c]
    if cases:
        yield ""
        yield f"| {' | '.join(head for head, _ in columns)} |"
        yield "|" + "---|" * len(columns)
        for case in sorted(cases, key=_order):
            yield f"| {' | '.join(cell(case) for _, cell in columns)} |"
    skipped = [_named(case) for case in part["cases"] if "skipped" in case]
    if skipped:
        yield ""
        yield f"No time was left for: {'; '.join(skipped)}."


def _is_measured(case: Case) -> bool:
    return "skipped" not in case and not isinstance(case.get("error"), str)


def _order(case: Case) -> tuple:
    """Cases of a model together and by batch; others as they come."""
    models = ("demo", "toy", "base", "sd15", "sdxl")
    model = case.get("model")
    place = models.index(model) if model in models else -1
    return place, case.get("arithmetic", "") if "batch" in case else "", case.get("batch", 0)


def _cases(parts: Mapping[str, Any], name: str) -> list[Case]:
    return parts.get(name, {}).get("cases", [])


def _named(case: Case) -> str:
    """What names a case."""
    names = ("what", "model", "arithmetic", "dtype", "batch", "queries", "keys", "pictures")
    named = [str(case[n]) if n != "batch" else f"batch {case[n]}" for n in names if n in case]
    return ", ".join(named) or "the device"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _text(key: str) -> Callable[[Case], str]:
    return lambda case: _cell(str(case.get(key, "")))


def _number(key: str, form: str, factor: float = 1.0, unit: str = "") -> Callable[[Case], str]:
    def cell(case: Case) -> str:
        value = case.get(key)
        return "" if value is None else f"{factor * value:{form}}{unit}"

    return cell


def _time(key: str) -> Callable[[Case], str]:
    def cell(case: Case) -> str:
        value = case.get(key)
        if value is None:
            return ""
        return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.3g} ms"

    return cell


def _tflops(case: Case) -> str:
    return f"{case['gflop'] / 1e3 / case['step_s']:.3g}"


def _share(kind: str, products: Sequence[Case]) -> Callable[[Case], str]:
    """Of the data sheet's rate; where that is unknown, of the product measured."""

    def cell(case: Case) -> str:
        rate = peaks.of(kind, case["arithmetic"])
        of_product = "" if rate else " of the product"
        rate = rate or peaks.measured(products, case["arithmetic"])
        share = peaks.share(case["gflop"], case["step_s"], rate)
        return "unknown" if share is None else f"{share:.1%}{of_product}"

    return cell


def _products(kind: str) -> list[Column]:
    def share(case: Case) -> str:
        rate = peaks.of(kind, case["arithmetic"])
        return f"{case['tflops'] / rate:.0%}" if rate else "unknown"

    return [
        ("arithmetic", _text("arithmetic")),
        ("side", _text("side")),
        ("TFLOP/s", _number("tflops", ".3g")),
        ("of the data sheet's", share),
    ]


def _steps(kind: str, products: Sequence[Case]) -> list[Column]:
    return [
        ("model", _text("model")),
        ("pixels", _text("pixels")),
        ("arithmetic", _text("arithmetic")),
        ("batch", _text("batch")),
        ("a step", _time("step_s")),
        ("pictures × steps per s", _number("image_steps_per_s", ".4g")),
        ("TFLOP/s", _tflops),
        ("of the peak", _share(kind, products)),
        ("memory", _number("memory_mib", ".0f", unit=" MiB")),
        ("attention", _text("attention")),
        ("compiling", _number("compile_s", ".1f", unit=" s")),
    ]


def _training(kind: str, products: Sequence[Case]) -> list[Column]:
    return [
        ("model", _text("model")),
        ("arithmetic", _text("arithmetic")),
        ("batch", _text("batch")),
        ("a step", _time("step_s")),
        ("pictures per s", _number("pictures_per_s", ".4g")),
        ("TFLOP/s", _tflops),
        ("of the peak", _share(kind, products)),
        ("memory", _number("memory_mib", ".0f", unit=" MiB")),
        ("attention", _text("attention")),
        ("compiling", _number("compile_s", ".1f", unit=" s")),
    ]


def _expected(case: Case) -> str:
    return "yes" if case["as_expected"] else "**no**"


def _difference(case: Case) -> str:
    if "error" in case:
        return f"{case['error']:.1e}"
    return "equal" if case["psnr"] is None else f"{case['psnr']:.1f} dB"


def _shape(case: Case) -> str:
    masked = ", masked" if case["masked"] else ""
    return f"{case['queries']} × {case['keys']}, {case['heads']} heads of {case['width']}{masked}"


def _cudnn(case: Case) -> str:
    return _time("cudnn_seconds")(case) or f"none: {_cell(case.get('cudnn_refuses', ''))[:80]}"


_PARITY: list[Column] = [
    ("what", _text("what")),
    ("arithmetic", _text("arithmetic")),
    ("difference", _difference),
    ("as expected", _expected),
]
_ATTENTION: list[Column] = [
    ("model", _text("model")),
    ("queries × keys", _shape),
    ("dtype", _text("dtype")),
    ("kernel", _text("attention")),
    ("time", _time("seconds")),
    ("error", _number("error", ".1e")),
    ("by cuDNN", _cudnn),
]
_PICTURES: list[Column] = [
    ("pictures", _text("pictures")),
    ("steps", _text("steps")),
    ("first call", _time("first_s")),
    ("later calls", _time("seconds")),
    ("pictures per s", _number("pictures_per_s", ".3g")),
]
_BATCHING: list[Column] = [
    ("batches", _text("batching")),
    ("steps", lambda case: ", ".join(map(str, case["steps"]))),
    ("waiting", _text("waiting")),
    ("pictures", _text("pictures")),
    ("pictures per minute", _number("pictures_per_min", ".4g")),
    ("first run", _time("first_s")),
]

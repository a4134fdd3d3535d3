"""How fast devices are by their data sheets, and what share of that a program reaches."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Peaks(NamedTuple):
    """Dense TFLOP/s of matrix products; None where the device has no such arithmetic.

    Attributes:
        bfloat16: with sums in float32.
        tensorfloat32: what JAX uses for float32 unless told otherwise.
        float32: exact.
    """

    bfloat16: float | None
    tensorfloat32: float | None
    float32: float | None


# By the beginning of `device_kind`; the first that fits counts. From NVIDIA's data sheets (the
# figures without sparsity) and Google's pages of Cloud TPU. TPUs multiply float32 as bfloat16 where
# the precision is JAX's default, and no rate is published for other precisions.
PEAKS = {
    "NVIDIA B200": Peaks(2250.0, 1125.0, 75.0),
    "NVIDIA H200": Peaks(989.4, 494.7, 66.9),
    "NVIDIA GH200": Peaks(989.4, 494.7, 66.9),
    "NVIDIA H100 NVL": Peaks(835.0, 417.5, 60.0),
    "NVIDIA H100 PCIe": Peaks(756.0, 378.0, 51.2),
    "NVIDIA H100 80GB HBM3": Peaks(989.4, 494.7, 66.9),
    "NVIDIA A100": Peaks(312.0, 156.0, 19.5),
    "NVIDIA L40S": Peaks(362.0, 183.0, 91.6),
    "NVIDIA L4": Peaks(121.0, 60.5, 30.3),
    "NVIDIA GeForce RTX 4090": Peaks(165.2, 82.6, 82.6),
    "NVIDIA GeForce RTX 3090": Peaks(71.0, 35.6, 35.6),
    "Tesla V100": Peaks(None, None, 15.7),
    "Tesla T4": Peaks(None, None, 8.1),
    "TPU v4": Peaks(275.0, 275.0, None),
    "TPU v5 lite": Peaks(197.0, 197.0, None),
    "TPU v5p": Peaks(459.0, 459.0, None),
    "TPU v5": Peaks(459.0, 459.0, None),
    "TPU v6 lite": Peaks(918.0, 918.0, None),
}

# The arithmetic of the check: what networks compute in, and JAX's precision of products.
PRECISIONS = {
    "bfloat16": ("bfloat16", "default"),
    "float32": ("float32", "default"),
    "float32, exact": ("float32", "highest"),
}


def known(device_kind: str) -> Peaks | None:
    """The peaks of a device; None where they are unknown."""
    for name, peaks in PEAKS.items():
        rest = device_kind.removeprefix(name)
        if rest != device_kind and not rest[:1].isalnum():
            return peaks
    return None


def of(device_kind: str, arithmetic: str) -> float | None:
    """The peak of a device in TFLOP/s for one of `PRECISIONS`; None where it is unknown.

    Devices without tensorfloat32 compute float32 exactly.
    """
    peaks = known(device_kind)
    if peaks is None:
        return None
    if arithmetic == "bfloat16":
        return peaks.bfloat16
    if arithmetic == "float32" and peaks.tensorfloat32 is not None:
        return peaks.tensorfloat32
    return peaks.float32


def share(gflop: float, seconds: float, tflops: float | None) -> float | None:
    """The share of a rate in TFLOP/s that a program reaches; None where the rate is unknown."""
    return None if not tflops else gflop / 1e3 / seconds / tflops


def measured(products: Sequence[Mapping[str, Any]], arithmetic: str) -> float | None:
    """TFLOP/s of the fastest matrix product that the part `device` measured; None without."""
    rates = [p["tflops"] for p in products if p.get("arithmetic") == arithmetic and "tflops" in p]
    return max(rates, default=None)

"""Which kernels compute attention in a compiled program, read from its text.

XLA lowers attention to products and a softmax; a fused kernel is a call of its own, which the text
names. `tests/test_accelerator_kernels.py` has such texts.
"""

import re
from collections import Counter

_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_FUSED = {  # the beginning of a call's target, and what it is
    "__cudnn$fmha": "cuDNN flash attention",
    "tpu_custom_call": "Pallas",  # on TPU
    "mosaic_gpu": "Pallas",
    "__gpu$xla.gpu.triton": "Triton",  # Pallas by Triton
    "triton_kernel_call": "Triton",
}
XLA = "XLA"


def fused(text: str) -> Counter[str]:
    """The fused kernels of a program and how often each is called.

    Args:
        text: `compiled.as_text()`. A call within a loop counts once.
    """
    targets = _TARGET.findall(text)
    return Counter(
        kind for target in targets for start, kind in _FUSED.items() if target.startswith(start)
    )


def attention(text: str) -> str:
    """What computes the attention of a program that has some, such as "cuDNN flash attention"."""
    return ", ".join(sorted(fused(text))) or XLA

"""Which kernel computes attention, what share of a device's peak a program reaches."""

import jax
import jax.numpy as jnp
import pytest

from dg2_jax.nn.attention import dot_product_attention
from dg2_jax.scripts.accelerator import kernels, peaks

# As XLA prints programs for GPUs; operands and configurations shortened.
CUDNN = """
%cudnn-fmha.1 = (bf16[8,8,4096,40]{3,1,2,0}, u8[0]{0}) custom-call(%q, %k, %v), \
custom_call_target="__cudnn$fmhaSoftmax", metadata={op_name="jit(f)/dot_product_attention_fwd"}
%cudnn-fmha.2 = (bf16[8,8,4096,40]{3,1,2,0}, u8[0]{0}) custom-call(%q.1, %k.1, %v.1, %mask), \
custom_call_target="__cudnn$fmhaScaleBiasSoftmax", backend_config={"cudnn_fmha_backend_config":{}}
%cublas-gemm.3 = (bf16[8,4096,320]{2,1,0}, s8[4194304]{0}) custom-call(%x, %w), \
custom_call_target="__cublas$gemm"
"""
PRODUCTS = """
%gemm.1 = (f32[64,4096,4096]{2,1,0}, s8[33554432]{0}) custom-call(%q, %k), \
custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/bqhd,bkhd->bhqk/dot_general"}
%softmax.1 = bf16[64,4096,4096]{2,1,0} fusion(%gemm.1), kind=kCustom, calls=%triton_softmax, \
backend_config={"fusion_backend_config":{"kind":"__triton"}}
%conv.1 = (bf16[8,64,64,320]{3,2,1,0}, u8[0]{0}) custom-call(%x, %w), \
custom_call_target="__cudnn$convForward"
"""
PALLAS_TPU = """
%flash.1 = bf16[8,8,4096,128]{3,2,1,0} custom-call(%q, %k, %v), custom_call_target="tpu_custom_call"
"""


def test_flash_attention_of_cudnn_is_seen():
    assert kernels.attention(CUDNN) == "cuDNN flash attention"
    assert kernels.fused(CUDNN) == {"cuDNN flash attention": 2}


def test_products_and_softmax_are_xla_whatever_libraries_compute_them():
    assert kernels.attention(PRODUCTS) == "XLA"
    assert not kernels.fused(PRODUCTS)


def test_a_program_with_two_kernels_names_both():
    assert kernels.attention(PALLAS_TPU) == "Pallas"
    assert kernels.attention(CUDNN + PALLAS_TPU) == "Pallas, cuDNN flash attention"


def test_the_attention_of_this_machines_processor_is_xla():
    a = jnp.ones((1, 8, 2, 4))
    assert kernels.attention(jax.jit(dot_product_attention).lower(a, a, a).compile().as_text()) == (
        "XLA"
    )


@pytest.mark.parametrize(
    ("kind", "arithmetic", "tflops"),
    [
        ("NVIDIA H200", "bfloat16", 989.4),
        ("NVIDIA H100 80GB HBM3", "float32", 494.7),
        ("NVIDIA H100 PCIe", "bfloat16", 756.0),
        ("NVIDIA A100-SXM4-80GB", "float32, exact", 19.5),
        ("NVIDIA L40S", "bfloat16", 362.0),
        ("NVIDIA L4", "bfloat16", 121.0),
        ("Tesla T4", "float32", 8.1),  # it has no tensorfloat32
        ("Tesla T4", "bfloat16", None),
        ("TPU v5 lite", "bfloat16", 197.0),
        ("TPU v5", "bfloat16", 459.0),
        ("TPU v5 lite", "float32, exact", None),
        ("NVIDIA H2000", "bfloat16", None),
        ("cpu", "float32", None),
    ],
)
def test_peaks_are_those_of_the_device_and_none_where_it_is_unknown(kind, arithmetic, tflops):
    assert peaks.of(kind, arithmetic) == tflops


def test_share_of_a_rate():
    assert peaks.share(gflop=500.0, seconds=0.002, tflops=1000.0) == pytest.approx(0.25)
    assert peaks.share(gflop=500.0, seconds=0.002, tflops=None) is None


def test_the_rate_measured_is_that_of_the_same_arithmetic():
    products = [
        {"device_kind": "cpu"},
        {"arithmetic": "bfloat16", "tflops": 3.0},
        {"arithmetic": "float32", "tflops": 1.0},
        {"arithmetic": "float32, exact", "error": "RuntimeError: no"},
    ]
    assert peaks.measured(products, "float32") == 1.0
    assert peaks.measured(products, "float32, exact") is None

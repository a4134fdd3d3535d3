"""The UNets of Stable Diffusion 1.5, 2.1 and XL, as their published config.json files have them."""

from typing import Any

TOKENS = 77
_LINEAR = {"use_linear_projection": True}
PUBLISHED: dict[str, dict[str, Any]] = {  # what their config.json has beside the class's defaults
    "1.5": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "2.1": {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], **_LINEAR},
    "XL": {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        **_LINEAR,
    },
}

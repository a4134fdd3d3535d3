"""The fields that clients of OpenAI's images API send, and what becomes of each."""

from dg2_jax.serve.foreign_fields import Ignored, Refused, Row

_OTHER_KIND = "pictures do not move and are not drawn by lines"

TABLE: dict[str, Row] = {
    "prompt": "`prompt`",
    "model": "a model, or one with a set of its weights, of the list; OpenAI's own names of image "
    "models mean the default one, and the reply's `model` says which; others are 404",
    "n": "`num_images`, 1 to 10",
    "size": "WIDTHxHEIGHT as OpenAI allows it (both divisible by 16, 1:3 to 3:1, sides of at most "
    "3840) or one of the model's: its size of the nearest aspect is made, and the reply says which",
    "response_format": "as there",
    "output_format": "`png`, `jpeg` or `webp`",
    "output_compression": "of `jpeg` and `webp`, 0 to 100",
    "stream": "as there",
    "partial_images": "0 to 3, with `stream`",
    "image": "one picture; of edits and variations",
    "anagram": "see there, of generations; `prompt` is then its first prompt",
    "control_image": "see there, as base64",
    "mask": "transparent is repainted; of edits",
    "quality": "one of OpenAI's, and no more: `num_inference_steps` says what a picture costs",
    "style": "one of OpenAI's, and no more: the prompt says it",
    "moderation": "one of OpenAI's, and no more: nothing is moderated",
    "background": Refused(("auto", "opaque"), "pictures have no transparency"),
    "input_fidelity": Refused(("low",), "`strength` says how much of a picture stays"),
    "complexity": Refused((), "`num_inference_steps` says what a picture costs"),
    "frame_count": Refused((), _OTHER_KIND),
    "frame_duration_ms": Refused((), _OTHER_KIND),
    "svg": Refused((), _OTHER_KIND),
    "markup": Refused((), "a mask or `control_image` of `/api/v1` says where"),
    "user": Ignored("`X-Client-ID` says who asks"),
    "safety_identifier": Ignored("nothing is moderated"),
}

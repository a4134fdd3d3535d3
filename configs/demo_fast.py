"""The demo denoiser distilled to 4 unguided steps.

    python -m scripts.distill --workdir runs/fast --data_dir data/encoded

Any value can be set on the command line, such as --config.guidance_scale=4. The teacher is the
shipped model; --config.init_from=runs/demo/model takes another. --config.student=fast continues an
existing student. A batch is 8 pictures at each of the 4 levels; a step takes 6 to 7 s on two cores
shared with other work. The result is runs/fast/model: the teacher's folder with the weights "fast".
`cp runs/fast/model/* dg2_jax/pretrained/demo` ships it.
"""

from ml_collections import ConfigDict

from dg2_jax.configs import demo


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `training.runs.DistillationRunConfig`."""
    config = demo.get_config()
    config.update(
        {
            "num_steps": 240,
            "batch_size": 8,
            "init_from": "demo",
            "validation_images": 32,
            "student": "ema",
            "student_steps": 4,
            "substeps": 4,
            "guidance_scale": 3.0,
            "own_share": 0.75,
        }
    )
    config.optim.update({"learning_rate": 1e-3, "warmup_steps": 40})
    config.loop.update({"validate_every": 100, "sample_every": 0, "checkpoint_every": 60})
    return config

"""Distils a denoiser to few steps: python -m scripts.distill --config configs/demo_fast.py.

The student takes one unguided step where its teacher, `init_from`, takes several guided ones; see
`dg2_jax.training.distillation`. Writes to --workdir like scripts.train. The model folder there is
the teacher's with the weights "fast" added, and can be copied over the teacher's:

    python -m scripts.sample --model=runs/fast/model --weights=fast --prompt="a lake at dawn"
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax import randomness
from dg2_jax.scripts.launch import launch
from dg2_jax.training import data as data_lib
from dg2_jax.training import distillation, export, loop, runs, starting, state, step


def run(config: runs.DistillationRunConfig, workdir: Path, data_dir: Path) -> bool:
    """Distils and exports; returns whether the run came to its end."""
    data = data_lib.open_data(data_dir, config)
    config = config.in_steps(len(data.train))
    network, params = starting.build_denoiser(config)
    student = params if config.student == "ema" else starting.weights(config, config.student)
    diffusion = config.diffusion
    schedule = diffusion.noise_schedule()
    parts = distillation.segments(schedule, config.student_steps, config.substeps)
    teach = distillation.make_teacher(
        network,
        jax.tree.map(jnp.copy, params),  # the student's are donated
        diffusion,
        config.guidance_scale,
        parts,
        data.scaling,
        config.own_share,
    )
    loss = distillation.student_loss(network, diffusion)
    measure = jax.jit(lambda params, batch: loss(params, batch, randomness.key(0))[0])

    def validate(current: state.TrainState) -> dict[str, float]:
        """The mean loss of the average over every batch, with noise of fixed seeds."""
        losses = [
            measure(current.ema, teach(current.ema, batch, randomness.key(i)))
            for i, batch in enumerate(data.validation)
        ]
        return {"val_loss": float(np.mean(jax.device_get(losses)))}

    result = loop.train(
        starting.initial_state(config, student),
        distillation.taught(step.make_train_step(loss, config), teach, config.seed),
        starting.make_loader(config, data.train, data.transform, data.collate),
        config,
        workdir,
        validate=validate,
    )
    finished = int(result.step) == config.num_steps
    if finished:
        export.export_distilled(workdir / "model", config, result)
    return finished


if __name__ == "__main__":
    launch(
        run,
        runs.DistillationRunConfig,
        config="demo_fast",
        workdir="runs/fast",
        data_dir="data/encoded",
        data_help="The output of scripts.prepare.",
    )

#!/usr/bin/env bash
# The demo model's recipe on one accelerator: rendering, decoder, denoiser, crisp decoder, distillation.
#
#     scripts/train_on_accelerator.sh runs/accelerator
#
# Starts from the embedded model, whose encoder stays; the result is OUT/model, a folder that
# `dg2_jax.Pipeline.load` opens, the same in parts of 15 MiB (cat OUT/model.tar.xz.* | tar -xJ), and
# OUT/times.txt, the seconds of every stage. Run again after an interruption, it goes on. Nothing is
# fetched. Variables, with their defaults:
#
#     PICTURES=16000  to train on; rendered by all CPUs, 0.1 s each on one
#     SCALE=1         of all numbers of steps
#     BATCH=256       of the denoiser; a quarter of it for the decoder, an eighth in the last stages
#     PYTHON=python3
#
# PICTURES=64 SCALE=0.01 BATCH=16 is a rehearsal that any machine can do.
set -euo pipefail
OUT=${1:?usage: scripts/train_on_accelerator.sh OUT}
PICTURES=${PICTURES:-16000} SCALE=${SCALE:-1} BATCH=${BATCH:-256} PYTHON=${PYTHON:-python3}
SETTINGS="PICTURES=$PICTURES SCALE=$SCALE BATCH=$BATCH"
. "$(dirname "$0")/stages.sh"

# Checkpoints are seldom, and nothing but the losses is looked at on the way.
FAST=(--config.compute_dtype=bfloat16 --config.loop.read_threads=8 --config.loop.prefetch=16 --config.loop.wandb=disabled
  --config.loop.sample_every=0 --config.loop.validate_every=0 --config.loop.keep=1 --config.loop.checkpoint_every="$(steps 1000)")
DATA=(--data_dir="$OUT/data" --config.dataset="train$PICTURES")

stage render "data/dg2_scenes/train$PICTURES" script make_scenes --data_dir="$OUT/data" --config="train$PICTURES"
stage decoder decoder/vae.json script train_vae --config configs/demo_vae_decoder.py --workdir "$OUT/decoder" "${DATA[@]}" "${FAST[@]}" \
  --config.batch_size=$((BATCH / 4)) --config.num_steps="$(steps 1500)" --config.optim.warmup_steps=4
stage start start/config.json script export --model=demo --autoencoder="$OUT/decoder" --out="$OUT/start"
stage encode encoded/manifest.json script prepare --source="tfds:dg2_scenes/train$PICTURES" --data_dir="$OUT/data" --model="$OUT/start" \
  --out="$OUT/encoded"
n=$(steps 6000)
stage denoiser denoiser/model script train --config configs/demo_256.py --workdir "$OUT/denoiser" --data_dir="$OUT/encoded" "${FAST[@]}" \
  --config.init_from="$OUT/start" --config.batch_size="$BATCH" --config.num_steps="$n" --config.optim.decay_steps="$((n / 4))" \
  --config.optim.learning_rate=5e-3 --config.optim.final_learning_rate=5e-5 --config.optim.warmup_steps=4 \
  --config.ema.snapshot_every="$n"
stage latents latents.npy script make_latents --model="$OUT/denoiser/model" --out="$OUT/latents.npy" --n="$(steps 2048)"
stage crisp crisp/vae.json script train_vae --config configs/demo_vae_crisp.py --workdir "$OUT/crisp" "${DATA[@]}" "${FAST[@]}" \
  --config.init_from="$OUT/denoiser/model" --config.own_latents="$OUT/latents.npy" --config.adversarial.own_share=0.25 \
  --config.batch_size=$((BATCH / 8)) --config.num_steps="$(steps 2000)" --config.optim.warmup_steps=4
stage assemble crisp_model/config.json script export --model="$OUT/denoiser/model" --autoencoder="$OUT/crisp" --out="$OUT/crisp_model"
stage distil fast/model script distill --config configs/demo_fast.py --workdir "$OUT/fast" --data_dir="$OUT/encoded" "${FAST[@]}" \
  --config.init_from="$OUT/crisp_model" --config.batch_size=$((BATCH / 8)) --config.num_steps="$(steps 600)" --config.optim.warmup_steps=4
stage model model/config.json cp -rT "$OUT/fast/model" "$OUT/model"
pack() { tar -C "$OUT" -cf - model | xz -1 -T0 | split -b 15M -d - "$OUT/model.tar.xz."; }
stage pack model.tar.xz.00 pack
stage sharpness sharpness.json script measure_sharpness --model="$OUT/model" --n="$(steps 256)" --out="$OUT/sharpness.json"
cat "$OUT/times.txt"

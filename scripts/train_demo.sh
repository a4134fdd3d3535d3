#!/usr/bin/env bash
# The embedded model's whole recipe on any machine: rendering, autoencoder, denoiser, crisp decoder, distillation, probe.
#
#     scripts/train_demo.sh runs          # what make train-demo does
#
# The results are OUT/faster/model, a folder that `dg2_jax.Pipeline.load` opens, OUT/probe, and OUT/times.txt, the
# seconds of every stage. Run again after an interruption, it goes on. Variables, with their defaults:
#
#     PICTURES=       to train on; all 40,000 of the data set if empty
#     SCALE=1         of all numbers of steps
#     PYTHON=python3
#
# PICTURES=64 SCALE=0.002 is a rehearsal. Two cores take days for the whole.
set -euo pipefail
OUT=${1:?usage: scripts/train_demo.sh OUT}
PICTURES=${PICTURES:-} SCALE=${SCALE:-1} PYTHON=${PYTHON:-python3}
SETTINGS="PICTURES=$PICTURES SCALE=$SCALE"
. "$(dirname "$0")/stages.sh"

length() { # the flags that scale the run of a configuration; none where SCALE is 1
  [ "$SCALE" = 1 ] || "$PYTHON" -c 'import importlib, sys
config = importlib.import_module("dg2_jax.configs." + sys.argv[1]).get_config()
scaled = lambda number, least: max(least, round(number * float(sys.argv[2])))
print(f"--config.num_steps={scaled(config.num_steps, 8)}")
for name in ("warmup_steps", "decay_steps"):
    print(f"--config.optim.{name}={scaled(config.optim.get(name, 0), 0)}")' "$1" "$SCALE"
}

NAME=${PICTURES:+train$PICTURES} NAME=${NAME:-full}
DATA=(--data_dir="$OUT/data" --config.dataset="$NAME")
LATENTS=(--data_dir="$OUT/encoded")

stage render "data/dg2_scenes/$NAME" script make_scenes --data_dir="$OUT/data" --config="$NAME"
stage autoencoder vae/vae.json script train_vae --config=demo_vae --workdir="$OUT/vae" "${DATA[@]}" $(length demo_vae)
stage encode encoded/manifest.json script prepare --source="tfds:dg2_scenes/$NAME" --data_dir="$OUT/data" --vae="$OUT/vae" --size=256 --out="$OUT/encoded"
stage denoiser demo/model script train --config=demo --workdir="$OUT/demo" "${LATENTS[@]}" $(length demo)
stage longer demo_256/model script train --config=demo_256 --workdir="$OUT/demo_256" "${LATENTS[@]}" --config.init_from="$OUT/demo/model" \
  $(length demo_256)
stage latents latents.npy script make_latents --model="$OUT/demo_256/model" --out="$OUT/latents.npy" --n="$(steps 2048)"
stage crisp crisp/vae.json script train_vae --config=demo_vae_crisp --workdir="$OUT/crisp" "${DATA[@]}" --config.init_from="$OUT/demo_256/model" \
  --config.own_latents="$OUT/latents.npy" --config.adversarial.own_share=0.25 $(length demo_vae_crisp)
stage model model/config.json script export --model="$OUT/demo_256/model" --autoencoder="$OUT/crisp" --out="$OUT/model"
stage fast fast/model script distill --config=demo_fast --workdir="$OUT/fast" "${LATENTS[@]}" --config.init_from="$OUT/model" $(length demo_fast)
stage faster faster/model script distill --config=demo_fast --workdir="$OUT/faster" "${LATENTS[@]}" --config.init_from="$OUT/fast/model" \
  --config.student=fast --config.optim.learning_rate=6e-4 $(length demo_fast) --config.num_steps="$(steps 210)"
stage probe probe/probe.json script train_probe --config=probe --workdir="$OUT/probe" "${DATA[@]}" $(length probe)
cat "$OUT/times.txt"

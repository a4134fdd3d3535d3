#!/usr/bin/env bash
# Makes the pictures of docs/controls.md, which shows the commands: make gallery
set -euo pipefail
cd "$(dirname "$0")/.."
sample() { .venv/bin/python -m scripts.sample --columns=4 "$@"; }
G=docs/gallery
mkdir -p $G

sample --prompt="a calm lake at dawn" --num_images=4 --seed=3 --sheet=$G/txt2img.png
sample --prompt="a calm lake at dawn" --num_images=4 --seed=3 --negative_prompt="fog" --guidance_rescale=0.7 --sheet=$G/negative_prompt.png
sample --prompt="a calm lake at dawn" --seed=5 --out=$G/source
mv $G/source/*.png $G/source.png && rmdir $G/source
sample --prompt="a calm lake at sunset" --image=$G/source.png --strength=0.6 --num_images=4 --seed=0 --sheet=$G/img2img.png
sample --prompt="a calm lake at night" --image=$G/source.png --inversion=ddpm --source_prompt="a calm lake at dawn" --strength=0.7 --num_images=4 --seed=0 --sheet=$G/inversion.png
.venv/bin/python -c "
from PIL import Image, ImageDraw
mask = Image.new('L', (128, 128))
ImageDraw.Draw(mask).rectangle((56, 16, 127, 74), fill=255)
mask.save('$G/mask.png')"
sample --prompt="a volcano by a calm lake at dawn" --image=$G/source.png --mask=$G/mask.png --strength=1 --solver=ddim --num_resamples=5 --guidance_scale=3 --mask_feather=8 --num_images=4 --seed=0 --sheet=$G/inpaint.png
sample --prompt="a calm lake at dawn" --image=$G/source.png --outpaint=0,0,64,0 --strength=1 --solver=ddim --num_resamples=5 --num_images=4 --seed=0 --sheet=$G/outpaint.png
sample --anagram="a volcano at sunset:identity" --anagram="a calm lake at sunset:rot180" --num_images=4 --seed=0 --sheet=$G/anagram.png
sample --prompt="a tropical island AND a sunset" --num_images=4 --seed=0 --sheet=$G/composed.png
sample --prompt="a tropical island at noon" --seed=1 --upscale=4 --out=$G/upscale
mv $G/upscale/*.png $G/upscale.png && rmdir $G/upscale
sample --prompt="a volcano at sunset" --seed=0 --animate=$G/previews.gif --out=$G/frames
rm -r $G/frames
.venv/bin/python -m scripts.grid --prompt="a volcano at sunset" --x=guidance_scale=1,2.5,5,8 --y=solver=ddim,dpmpp_2m,euler_ancestral --out=$G/grid.png

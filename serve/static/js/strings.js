// Every word of the page, in one place.
const plural = (count, one, many) => `${count} ${count === 1 ? one : many}`;

/** A duration in words. */
export function duration(seconds) {
  if (seconds < 1) return "under a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const S = {
  app: "dg2",
  skip: "Skip to the prompt",
  modes: {
    txt2img: { label: "Text", title: "Create from words" },
    img2img: { label: "Image", title: "Change a picture" },
    inpaint: { label: "In-paint", title: "Repaint a part" },
    anagram: { label: "Anagram", title: "One picture, several readings" },
    upscale: { label: "Upscale", title: "Enlarge a picture" },
  },
  modesLabel: "What to make",

  server: {
    ready: "Ready",
    loading: "Loading the model…",
    warming: (done, total) => `Warming up ${done}/${total}`,
    draining: "Restarting…",
    failed: "Model failed to load",
    offline: "Offline, retrying…",
    unknown: "Connecting…",
  },

  prompt: {
    label: "Prompt",
    placeholder: "Describe a landscape: a misty pine forest at dawn",
    negative: "Negative prompt",
    negativePlaceholder: "What to keep out",
    random: "Random",
    randomTitle: "Put in a random prompt",
    randomOptions: "Random prompt options",
    category: "Category",
    anyCategory: "Any category",
    split: "From",
    splits: { train: "Training prompts", validation: "Validation prompts" },
    match: "Match",
    matchTitle: "Find prompts the model knows that are near yours",
    matchEmpty: "Write a prompt first; this finds the nearest ones the model was trained on.",
    matchNone: "Nothing near it in this bank.",
    matchUse: (prompt) => `Use “${prompt}”`,
    matching: "Looking…",
    matchHint: "Nearest prompts. Choose one to use it.",
    bank: "Bank",
    automatic: "Match every time I generate",
    matched: (from) => `Matched from “${from}”`,
    swap: "Undo",
    clear: "Clear prompt",
  },

  settings: {
    title: "Settings",
    steps: "Steps",
    guidance: "Guidance",
    guidanceHint: "How closely to follow the prompt; 1 is unguided",
    images: "Pictures",
    solver: "Solver",
    weights: "Weights",
    weightNames: { ema: "EMA", raw: "Raw", fast: "Fast" },
    model: "Model",
    seed: "Seed",
    seedRandom: "Random each time",
    seedLock: "Keep this seed",
    seedUnlock: "Use a new seed each time",
    seedDraw: "Draw a seed",
    seedReuse: "Reuse the last seed",
    upscale: "Upscale results",
    off: "Off",
    upscaler: "Upscaler",
    advanced: "Advanced",
    eta: "Noise added per step (eta)",
    rescale: "Guidance rescale",
    spacing: "Step spacing",
    automatic: "Automatic",
    preview: "Live preview",
    previews: { none: "Off", linear: "Fast", vae: "Full" },
    every: "Preview every (steps)",
    embed: "Store settings in the PNG",
    reset: "Reset settings",
    resetDone: "Settings are back to their defaults.",
  },
  solvers: {
    ddim: "DDIM", ddpm: "DDPM", ddpm_large: "DDPM (large variance)", dpmpp_2m: "DPM++ 2M", dpmpp_2m_sde: "DPM++ 2M SDE",
    unipc: "UniPC", heun: "Heun", euler: "Euler", euler_ancestral: "Euler ancestral",
  }, // prettier-ignore

  source: {
    label: "Source picture",
    drop: "Drop, paste or choose a picture",
    browse: "Choose a picture",
    replace: "Replace",
    remove: "Remove",
    reading: "Reading the picture…",
    alt: "The source picture",
    strength: "Strength",
    strengthHint: "0 keeps the picture, 1 ignores it",
    strengthMode: "Strength means",
    strengthModes: { partial: "Part of the steps", full: "All steps, less noise" },
    fit: "Fit",
    fits: { crop: "Crop", pad: "Pad" },
    inversion: "Invert the picture first",
    inversions: { ddim: "DDIM", ddpm: "DDPM" },
    sourcePrompt: "What the source shows",
    factor: "Enlarge by",
    gallery: "From the gallery",
    pasted: "Picture pasted.",
    kept: "Picture in place.",
  },

  mask: {
    title: "Paint what to replace",
    open: "Paint the mask",
    edit: "Edit the mask",
    painted: (share) => `${share} % painted`,
    nothing: "Nothing painted yet",
    brush: "Brush", eraser: "Eraser", hand: "Move", size: "Size", feather: "Feather", featherHint: "Soft edge of the repainted part, in pixels",
    invert: "Invert", clear: "Clear", undo: "Undo", redo: "Redo", zoomIn: "Zoom in", zoomOut: "Zoom out", fit: "Fit",
    done: "Done",
    resamples: "Resampling",
    canvas: "Mask canvas. Arrow keys move the brush, Space paints, with Shift in larger steps.",
    help: "Paint over what should change. Right button or the eraser takes away; Ctrl and wheel, or two fingers, zoom.",
    alt: "Source picture with the mask laid over it",
  }, // prettier-ignore

  anagram: {
    label: "Readings",
    hint: "One picture that reads differently when it is turned.",
    prompt: (n) => `Reading ${n}`,
    view: (n) => `Seen, reading ${n}`,
    add: "Add a reading",
    remove: (n) => `Remove reading ${n}`,
    mode: "Method",
    modes: { latent: "Latent", corrected: "Corrected", pixel: "Pixel" },
    views: {
      identity: "upright", rot90: "turned left", rot180: "upside down", rot270: "turned right", flip_horizontal: "mirrored", flip_vertical: "flipped",
      negate: "inverted colours", jigsaw: "jigsaw", patch_permutation: "pieces shuffled", inner_circle: "inner disc turned", skew: "skewed",
    },
    turn: "Turn to the next reading",
    turnHint: "Drag the picture, or press Space, to turn it.",
    alt: (view, prompt) => `The picture ${view}: ${prompt}`,
    example: [["a volcano at sunset", "identity"], ["a lake under a cloudy sky", "rot180"]],
  }, // prettier-ignore

  run: {
    stage: "Result",
    generate: "Generate",
    queue: "Add to queue",
    sending: "Sending…",
    cancel: "Cancel",
    cancelling: "Cancelling…",
    queued: (before) => (before === 0 ? "Next in the queue" : before ? `${plural(before, "job", "jobs")} before yours` : "In the queue"),
    starting: "Starting…",
    step: (step, steps) => `Step ${step} of ${steps}`,
    images: (done, all) => `${done} of ${all} pictures`,
    left: (seconds) => `about ${duration(seconds)} left`,
    done: (count, seconds) => `${plural(count, "picture", "pictures")} in ${duration(seconds)}`,
    cancelled: "Cancelled",
    failed: "This did not work",
    retry: "Try again",
    gone: "This job is no longer on the server.",
    reconnecting: "Connection lost. The job goes on; reconnecting…",
    finished: "Finished",
    openOne: "Open a picture to reuse, change or save it.",
    preview: (prompt) => `Preview of “${prompt}”`,
    waiting: "Waiting for the first preview",
    jobs: "Jobs under way",
    progress: "Progress",
  },

  empty: {
    title: "Say what you want to see",
    text: "Start with this one, change it as you like.",
    prompts: ["a volcano at sunset", "a calm lake under a clear sky", "green aurora over the night sky", "a waterfall in spring"],
    go: "Make this picture",
    more: "Other ideas",
  },

  picture: {
    open: (prompt) => `Open “${prompt}”`,
    alt: (prompt, seed) => (prompt ? `${prompt}${seed === null ? "" : `, seed ${seed}`}` : "Picture"),
    download: "Download", remove: "Delete", reuse: "Reuse settings", variation: "New seed", toImage: "Change it", toMask: "In-paint", toUpscale: "Upscale",
    compare: "Compare", copy: "Copy prompt", copied: "Prompt copied.", close: "Close", previous: "Previous picture", next: "Next picture",
    details: "Details", deleted: "Picture deleted.", confirm: "Delete this picture? This cannot be undone.", reused: "Settings restored.",
    before: "Before", after: "After", slider: "How much of the picture before is shown",
    noImage: "The picture is gone.",
  }, // prettier-ignore

  gallery: {
    title: "Gallery",
    search: "Search prompts",
    all: "All",
    kind: "Kind",
    more: "Show more",
    none: "Your pictures will appear here.",
    nothing: (text) => `Nothing matches “${text}”.`,
    failed: "The gallery could not be loaded.",
    count: (count) => plural(count, "picture", "pictures"),
  },

  drop: {
    title: "Drop a picture",
    text: "A picture made here brings its settings back; any other becomes the source.",
    restored: "Settings restored from the picture.",
    source: "No settings inside. It is now the source picture.",
    not: "This is not a PNG, JPEG or WebP picture.",
  },

  grid: {
    open: "X/Y grid",
    title: "X/Y grid",
    text: "Makes one picture for each combination; everything else comes from the form.",
    x: "Across",
    y: "Down",
    none: "Nothing",
    parameters: {
      num_inference_steps: "Steps", guidance_scale: "Guidance", solver: "Solver", seed: "Seed", weights: "Weights", strength: "Strength",
      guidance_rescale: "Guidance rescale", prompt: "Prompt: replace",
    },
    values: (axis) => `${axis}: values`,
    valuesHint: "Separated by commas. For a prompt: the first is searched for, all are put in.",
    make: (count) => `Make ${plural(count, "picture", "pictures")}`,
    tooMany: (most) => `At most ${most} pictures.`,
    values0: "Give at least one value.",
    number: (text) => `“${text}” is not a number.`,
    choice: (text, all) => `“${text}” is none of ${all}.`,
    missing: (text) => `The prompt does not contain “${text}”.`,
    save: "Save as one picture",
    list: "Grids",
    cell: (x, y) => `${x}, ${y}`,
    close: "Close grid",
  }, // prettier-ignore

  presets: {
    label: "Presets",
    builtin: { draft: "Draft", balanced: "Balanced", fine: "Fine" },
    save: "Save current settings",
    name: "Name of the preset",
    add: "Save",
    remove: (name) => `Delete preset ${name}`,
    used: (name) => `Preset “${name}” in use.`,
  },

  theme: { label: "Theme", light: "Light", dark: "Dark", system: "As the system" },

  login: {
    title: "This server needs a key",
    label: "API key",
    go: "Enter",
  },

  help: {
    title: "Keyboard shortcuts",
    open: "Keyboard shortcuts",
    close: "Close",
    rows: [
      ["Ctrl Enter", "Generate"], ["Esc", "Cancel the job shown"], ["/", "Go to the prompt"], ["R", "Random prompt"], ["M", "Match the prompt"],
      ["L", "Lock or free the seed"], ["1 – 5", "Kind of job"], ["G", "Search the gallery"], ["T", "Light or dark"], ["?", "This list"],
      ["← →", "In a picture: previous, next"], ["D", "In a picture: download"], ["Del", "In a picture: delete"],
      ["Space", "In an anagram: turn"], ["[ ]", "In the mask: size of the brush"], ["B E", "In the mask: brush, eraser"], ["Ctrl Z", "In the mask: undo; with Shift redo"],
    ],
  }, // prettier-ignore

  errors: {
    offline: "The server does not answer. Is it running?",
    status: (status) => `The server answered ${status}.`,
    busy: (seconds) => `The server is busy. Try again in ${duration(seconds)}.`,
    number: "A number is needed.",
    whole: "A whole number is needed.",
    range: (low, high) => `From ${low} to ${high}.`,
    image: "Choose a picture first.",
    mask: "Paint what should be replaced first.",
    reading: "Say what is seen here.",
    views: "Each reading needs its own view.",
  },

  details: {
    seed: "Seed", num_inference_steps: "Steps", guidance_scale: "Guidance", solver: "Solver", weights: "Weights", model: "Model",
    strength: "Strength", size: "Size", upscaler: "Upscaler", created_at: "Made", matched_from: "Typed",
  }, // prettier-ignore
};

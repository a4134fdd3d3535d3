// The views of anagrams on the page: those that turn are CSS, those that move pieces are drawn.
// The tables are dg2_jax.views' own (4 × 4 pieces, a board of 16 × 16 cells); tests/ui compares pixels.

/** Degrees clockwise of the views that are turns. */
export const ANGLES = { identity: 0, rot90: -90, rot180: 180, rot270: 90 };

/** Views that are a style of the picture. */
export const STYLES = {
  ...Object.fromEntries(
    Object.entries(ANGLES).map(([name, angle]) => [name, { transform: `rotate(${angle}deg)` }]),
  ),
  flip_horizontal: { transform: "scaleX(-1)" },
  flip_vertical: { transform: "scaleY(-1)" },
  negate: { filter: "invert(1)" },
};

const PIECES = 4;
const CELLS = 16;
// For each place, row by row: the piece that comes there, and its quarter turns to the left.
const MOVES = {
  // prettier-ignore
  jigsaw: [
    [15, 2], [1, 0], [11, 1], [0, 3], [7, 2], [9, 0], [5, 1], [2, 3],
    [14, 3], [10, 1], [6, 3], [8, 2], [3, 2], [4, 1], [13, 0], [12, 1],
  ],
  patch_permutation: [6, 11, 13, 7, 12, 14, 15, 0, 9, 4, 1, 2, 10, 5, 3, 8].map((piece) => [piece, 0]),
};

/**
 * Draws a square picture as a view that moves its parts shows it.
 *
 * @param {HTMLCanvasElement} canvas takes the picture's size
 * @param {HTMLImageElement} image
 * @param {string} view "jigsaw", "patch_permutation", "inner_circle" or "skew"
 */
export function drawView(canvas, image, view) {
  const side = image.naturalWidth;
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  if (view in MOVES) drawPieces(context, image, side, MOVES[view]);
  else if (view === "inner_circle") drawInnerCircle(context, image, side);
  else if (view === "skew") drawSkew(context, image, side);
}

function drawPieces(context, image, side, moves) {
  const size = side / PIECES;
  moves.forEach(([piece, turns], place) => {
    context.save();
    context.translate(((place % PIECES) + 0.5) * size, (Math.floor(place / PIECES) + 0.5) * size);
    context.rotate((-turns * Math.PI) / 2);
    const [x, y] = [(piece % PIECES) * size, Math.floor(piece / PIECES) * size];
    context.drawImage(image, x, y, size, size, -size / 2, -size / 2, size, size);
    context.restore();
  });
}

function drawInnerCircle(context, image, side) {
  const size = side / CELLS;
  context.drawImage(image, 0, 0);
  context.beginPath();
  for (let row = 0; row < CELLS; row++) {
    for (let column = 0; column < CELLS; column++) {
      const distance = Math.hypot(row + 0.5 - CELLS / 2, column + 0.5 - CELLS / 2);
      if (distance <= (3 / 8) * CELLS) context.rect(column * size, row * size, size, size);
    }
  }
  context.clip();
  context.rotate(Math.PI);
  context.drawImage(image, -side, -side);
}

function drawSkew(context, image, side) {
  const size = side / CELLS;
  for (let column = 0; column < CELLS; column++) {
    const shift = ((((column - CELLS / 2) * size) % side) + side) % side;
    const x = column * size;
    if (shift > 0) context.drawImage(image, x, side - shift, size, shift, x, 0, size, shift);
    context.drawImage(image, x, 0, size, side - shift, x, shift, size, side - shift);
  }
}

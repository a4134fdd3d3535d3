"""The painter and the range of horizons (y, 0 at the top) of every subject."""

from dg2_jax.data.scenes import highlands, lowlands, waters

PAINTERS = {
    "mountain": highlands.mountain,
    "volcano": highlands.volcano,
    "river": waters.river,
    "lake": waters.lake,
    "waterfall": highlands.waterfall,
    "desert": highlands.desert,
    "glacier": highlands.glacier,
    "forest": lowlands.forest,
    "bamboo_grove": lowlands.bamboo_grove,
    "savannah": lowlands.savannah,
    "meadow": lowlands.meadow,
    "canyon": highlands.canyon,
    "sea_cliff": waters.sea_cliff,
    "aurora": lowlands.aurora,
    "island": waters.island,
    "hills": lowlands.hills,
}
HORIZONS = {
    "mountain": (0.6, 0.68),
    "volcano": (0.6, 0.66),
    "river": (0.42, 0.52),
    "lake": (0.54, 0.62),
    "waterfall": (0.45, 0.55),
    "desert": (0.46, 0.56),
    "glacier": (0.42, 0.5),
    "forest": (0.48, 0.56),
    "bamboo_grove": (0.6, 0.7),
    "savannah": (0.58, 0.66),
    "meadow": (0.46, 0.54),
    "canyon": (0.5, 0.58),
    "sea_cliff": (0.45, 0.54),
    "aurora": (0.68, 0.74),
    "island": (0.52, 0.6),
    "hills": (0.44, 0.52),
}

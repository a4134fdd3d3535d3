"""How good pictures are, as numbers: attributes that a probe classifier sees in them."""

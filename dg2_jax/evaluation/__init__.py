"""Measures of pictures: a probe classifier's attributes, distances, reconstruction."""

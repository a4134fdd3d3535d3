"""The `dg2_scenes` data set: illustrated landscapes with attributes and captions."""

"""`make demo`: the main job on a real cluster, on screen, in under three minutes."""

"""Published image collections as pools: one module each, found by name."""

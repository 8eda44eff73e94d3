"""Published checkpoints as data: a config map and a reversible weight-name map onto a family."""

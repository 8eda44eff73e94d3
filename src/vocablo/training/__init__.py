"""The one training loop and what remembers around it."""

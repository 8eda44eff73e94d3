"""Self-supervision: T makes (input, target) from raw text, L is its loss."""

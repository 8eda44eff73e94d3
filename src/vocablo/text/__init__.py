"""From text to token ids and back, with offsets. No torch."""

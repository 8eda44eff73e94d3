"""Results drawn: terminal text, self-contained SVG and HTML. No torch."""

"""What every room stands on: errors, strict settings, the registry, named random streams, safe files. No torch."""

"""Published tests, one a file: how its gold and its predictions are read, and its official measures."""

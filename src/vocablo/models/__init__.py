"""One family a file, readable alone; the file name is its key."""

"""The command line: arguments in, the Python face called, the result shown."""

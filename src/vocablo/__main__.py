"""``python -m vocablo`` is the command line."""

from vocablo.cli.main import main

main()

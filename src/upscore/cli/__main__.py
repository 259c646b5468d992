"""``python -m upscore.cli``: the command line, without the installed script."""

from upscore.cli import main

main()

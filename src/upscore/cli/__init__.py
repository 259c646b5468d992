"""The command line: ``upscore train``, ``evaluate``, ``predict``, ``models``, ``demo``."""

from upscore.cli.app import main

__all__ = ["main"]

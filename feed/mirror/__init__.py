"""Copying logs with all that they name: `mirror.py` does it, `cli.py` is the command."""

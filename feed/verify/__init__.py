"""Proving that a log is what it promises to be: `verify.py` does it, `cli.py` is the command."""

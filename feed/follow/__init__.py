"""Following a log from anywhere: `follow.py` is what programs import, `cli.py` the command."""

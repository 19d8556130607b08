"""Other people's feeds that we fetch from: `watch.py` sees which are due, `cli.py` is the command."""

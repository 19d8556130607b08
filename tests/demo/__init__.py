"""Real results on the spot: a small library with a history, tested and measured at each commit, pushed as runners do.

`history` is the library's past as data (`beginning`, `middle`, `recent` hold its changes), `repository` turns it into
git commits, `runner` runs pytest and `runfeed push` at one commit, `server` asks the server what came of the pushes.
`python -m tests.demo --help` says how to call it.
"""

"""The answers: a DuckDB file loaded from the lake's parts, a read-only API and pages over it.

Comes in: the submissions and outcomes logs, and the parts that outcomes name. Goes out: JSON, CSV, Arrow and HTML.
Nothing here writes to a bucket but snapshots, and everything here can be deleted and comes back.
"""

"""What every object of Runfeed looks like: keys, records, tables, identities, errors. No I/O.

Everybody imports this room and it imports nobody, so that a stranger who reads the bucket needs only these pages.
"""

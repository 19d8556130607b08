"""Everything that admits or changes: packing and pushing on the runner's side, admission on the server's.

Comes in: a raw result file with its context. Goes out: a blob, a marker, a submission, a receipt.
"""

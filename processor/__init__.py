"""From blobs to rows: follows the submissions log and transforms each batch.

Writes parts (Parquet) and, last, the outcome that names them.
"""

"""Other people's logs, as buckets to read: `address.py` opens what an address means."""

"""Everything that names a vendor: storage, broker, server settings.

The rooms above see only our own small protocols.
"""

"""The own WebSub hub, so that push works out of the box: `role.py` puts it together."""

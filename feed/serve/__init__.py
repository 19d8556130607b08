"""The public bucket's objects over HTTP: `http.py` has the handlers."""

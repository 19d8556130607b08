"""Packages that libraries look for at every call although we do not have them."""

import importlib.util
import sys


def stop_looking_for(*names: str) -> None:
    """Let `import name` fail at once for packages that are not installed, without a search through the file system.

    pyarrow and DuckDB try pandas (and polars) again at each conversion and query: a tenth of the time of a small file.
    """
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = None  # type: ignore[assignment]

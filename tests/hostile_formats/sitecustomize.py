"""Loaded by Python at its start where this folder is on the path: a format that harms the process that reads it.

`{"hostile": <what>}` does `what`. So real children of tests meet what a file might do to a real decoder.
"""

import ctypes
import os
import re
import sys
import time
from typing import Any


def harm(what: str) -> None:
    held: list[bytearray] = []
    if what == "memory":
        held.append(bytearray(2 << 30))
    elif what == "memory-slowly":
        while True:
            held.append(bytearray(1 << 20))
    elif what == "loop":
        while True:
            pass
    elif what == "regex":
        re.match(r"(a+)+$", "a" * 64 + "b")
    elif what == "sleep":
        time.sleep(1000)
    elif what == "crash":
        ctypes.string_at(0)
    elif what == "kill":
        os.kill(os.getpid(), 9)
    elif what == "kill the worker":
        os.kill(os.getppid(), 9)
        os._exit(0)
    elif what == "hang once":
        mark = os.path.join(os.environ["TMPDIR"], "hung-once")
        if not os.path.exists(mark):
            open(mark, "x").close()
            time.sleep(20)
    elif what == "exit":
        os._exit(3)
    elif what == "silence":
        os.closerange(3, 100)
        os._exit(0)
    elif what == "bug":
        print(1 / 0)


class AddFormat:
    """Adds the format to the registry when that is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "processor.formats.registry":
            return None
        sys.meta_path.remove(self)
        import json
        from importlib.util import find_spec

        spec = find_spec(name)
        assert spec
        assert spec.loader
        load = spec.loader.exec_module

        def load_and_add(module: Any) -> None:
            load(module)
            from processor.formats import Format

            module.FORMATS["hostile"] = Format(
                id="hostile",
                title="",
                made_by="",
                example="",
                claims=lambda shape: "hostile" in shape.keys,
                read=lambda data, out: harm(json.loads(bytes(data))["hostile"]),
            )

        spec.loader.exec_module = load_and_add
        return spec


sys.meta_path.insert(0, AddFormat())

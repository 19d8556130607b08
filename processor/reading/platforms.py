"""An environment's os from what Python's `platform` module says. Pure."""


def os_of(system: str, release: str) -> str:
    """Name and major version, from `platform.system()` and `platform.release()`: `Linux 6`, `macOS 15`, `Windows 11`.

    For Linux and the BSDs the version is the kernel's. Darwin's kernel is translated to the macOS that has it.
    """
    major = release.partition(".")[0]
    if system == "Darwin" and major.isascii() and major.isdigit():
        kernel = int(major[:4])
        return f"macOS {kernel + 1 if kernel >= 25 else kernel - 9}" if kernel >= 20 else "macOS 10"
    return f"{system} {major}".strip()

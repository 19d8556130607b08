"""A coverage-guided fuzzer of everything that reads what strangers send: `python -m tests.fuzz --help`.

A target (`targets`) is a function of bytes that raises if anything but the promised comes of them. Its inputs begin
with the golden ones (`seeds`); `mutation` changes them where they have structure, so that what comes out is still
nearly a result file. `child` runs one target under Atheris (libFuzzer) for a while, with our packages instrumented, and
keeps each new kind of failure (`finds`); `__main__` runs the children and says what came of them.
"""

"""Statistics of a measurement's samples, where the file itself gives none. Pure."""

import math
from collections.abc import Sequence

STATISTICS = ("min", "max", "mean", "median", "stddev")
"""In the order of `sample_statistics`."""


def sample_statistics(samples: Sequence[float]) -> dict[str, float | None]:
    """min, max, mean, median and stddev (of the sample, n - 1) as `RunRows.measurement` takes them.

    A mean or deviation beyond the largest float is None; stddev of one sample is None.
    """
    count, mean, stddev = len(samples), None, None
    try:
        mean = math.fsum(samples) / count
        if count == 1:
            only = samples[0]
            return {"min": only, "max": only, "mean": mean, "median": only, "stddev": None}
        stddev = math.sqrt(math.fsum([(sample - mean) * (sample - mean) for sample in samples]) / (count - 1))
    except OverflowError:
        pass
    ordered, half = sorted(samples), count // 2
    return {
        "min": ordered[0],
        "max": max(samples),
        "mean": mean,
        "median": ordered[half] if count % 2 else (ordered[half - 1] + ordered[half]) / 2,
        "stddev": stddev,
    }

"""Statistics of a measurement's samples, where the file itself gives none. Pure."""

import math
import statistics
from collections.abc import Sequence


def sample_statistics(samples: Sequence[float]) -> dict[str, float | None]:
    """min, max, mean, median and stddev (of the sample, n - 1) as `RunRows.measurement` takes them.

    A mean or deviation beyond the largest float is None; stddev of one sample is None.
    """
    mean = stddev = None
    try:
        mean = statistics.fmean(samples)
        if len(samples) > 1:
            stddev = math.sqrt(math.fsum((sample - mean) * (sample - mean) for sample in samples) / (len(samples) - 1))
    except OverflowError:
        pass
    return {
        "min": min(samples),
        "max": max(samples),
        "mean": mean,
        "median": statistics.median(samples),
        "stddev": stddev,
    }

"""What a run tells: for people, and as JSON."""

import msgspec

_SHOWN = 30


class Report(msgspec.Struct, kw_only=True):
    """What happened, and what must be empty or 0 for the run to count."""

    seed: int
    submissions: int
    """Pushed."""
    receipts: int
    distinct: int
    """Different submissions among the receipts."""
    abandoned: int
    """Pushes that gave up without a receipt."""
    retries: int
    faults: dict[str, int]
    """By kind."""
    requests_harmed: dict[str, int]
    """Of requests to S3, by what happened to them."""
    requests: int
    verdicts: dict[str, int]
    restarts: dict[str, list[int]]
    """Exit statuses of processes that ended by themselves; 2 is a start without storage or queue, and nothing else may
    be among them."""
    lost: int
    doubled: int
    breaches: list[str]
    """Everything that is not as it must be, those lost and doubled included."""
    seconds: dict[str, float]

    def lines(self) -> list[str]:
        """For people."""
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        harmed = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.requests_harmed.items()))
        verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in sorted(self.verdicts.items()))
        seconds = ", ".join(f"{step} {length:.0f} s" for step, length in self.seconds.items())
        return [
            f"seed {self.seed}",
            f"pushed {self.submissions:,}: {self.receipts:,} receipts of {self.distinct:,} submissions, "
            f"{self.abandoned:,} given up, {self.retries:,} tries that failed",
            f"verdicts: {verdicts}",
            f"faults {sum(self.faults.values()):,}: {faults}",
            f"requests to S3 {self.requests:,}, harmed {sum(self.requests_harmed.values()):,}: {harmed}",
            f"ended by themselves: {self.restarts or 'none'}",
            f"took {seconds}",
            *(f"BREACH {breach}" for breach in self.breaches[:_SHOWN]),
            f"lost {self.lost}, doubled {self.doubled}, breaches {len(self.breaches)}",
        ]

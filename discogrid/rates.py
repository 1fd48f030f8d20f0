"""Token buckets: how much of something each of many may do, at once and lastingly. Pure: the time is given."""


class Bucket:
    """What is left to one of them; `now` is in seconds that never run back."""

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        """`burst` at once, `per_s` lastingly; it begins full."""
        self._burst = burst
        self._per_s = per_s
        self._left = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Whether it may be done once more."""
        self._fill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def part(self, wanted: int, now: float) -> int:
        """How much of `wanted` may be done; that is taken."""
        self._fill(now)
        granted = min(wanted, int(self._left))
        self._left -= granted
        return granted

    def due(self, amount: float) -> float:
        """When so much, at most the burst, is left again."""
        return self._at + max(0.0, min(amount, self._burst) - self._left) / self._per_s

    def full_at(self) -> float:
        """When it is as if nothing had been taken."""
        return self.due(self._burst)

    def _fill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now


class Rates:
    """One bucket a name; who is back at a full bucket is forgotten when there are too many names."""

    def __init__(self, burst: float, per_s: float, names_max: int) -> None:
        """`burst` at once, `per_s` lastingly, for at most about `names_max` remembered names."""
        self._burst = burst
        self._per_s = per_s
        self._names_max = names_max
        self._buckets: dict[str, Bucket] = {}

    def take(self, name: str, now: float) -> bool:
        """Whether this one may do it once more."""
        return self._bucket(name, now).take(now)

    def part(self, name: str, wanted: int, now: float) -> int:
        """How much of `wanted` this one may do; that is taken."""
        return self._bucket(name, now).part(wanted, now)

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._buckets)

    def _bucket(self, name: str, now: float) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= self._names_max:
                self._forget(now)
            bucket = self._buckets[name] = Bucket(self._burst, self._per_s, now)
        return bucket

    def _forget(self, now: float) -> None:
        """Whose bucket is full, and when that is nobody, the fuller half."""
        full_at = {name: bucket.full_at() for name, bucket in self._buckets.items()}
        gone = [name for name, at in full_at.items() if at <= now]
        for name in gone or sorted(full_at, key=lambda name: full_at[name])[: self._names_max // 2 + 1]:
            del self._buckets[name]


class Complaints:
    """What each of many did over its rate, told together and no more often than anybody reads it."""

    def __init__(self, every_s: float) -> None:
        """At most one telling every `every_s`."""
        self._every_s = every_s
        self._told = float("-inf")
        self._amounts: dict[str, int] = {}

    def add(self, name: str, amount: int, now: float) -> dict[str, int]:
        """Count what was too much; all that was counted since the last telling, when it is time for one."""
        self._amounts[name] = self._amounts.get(name, 0) + amount
        if now - self._told <= self._every_s:
            return {}
        self._told = now
        told, self._amounts = self._amounts, {}
        return told

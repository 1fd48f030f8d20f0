"""Token buckets: how much of something each of many may do, at once and lastingly. Pure: the time is given."""

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """What is left to one of them."""

    left: float
    at: float


class Rates:
    """One bucket a name; who is back at a full bucket is forgotten when there are too many names."""

    def __init__(self, burst: float, per_s: float, names_max: int) -> None:
        """`burst` at once, `per_s` lastingly, for at most about `names_max` remembered names."""
        self._burst = burst
        self._per_s = per_s
        self._names_max = names_max
        self._buckets: dict[str, Bucket] = {}

    def take(self, name: str, now: float) -> bool:
        """Whether this one may do it once more; `now` in seconds that never run back."""
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= self._names_max:
                self._forget(now)
            self._buckets[name] = Bucket(self._burst - 1, now)
            return True
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._per_s)
        bucket.at = now
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True

    def __len__(self) -> int:
        """How many names are remembered."""
        return len(self._buckets)

    def _forget(self, now: float) -> None:
        """Whose bucket is full, and when that is nobody, the fuller half."""
        full_at = {
            name: bucket.at + (self._burst - bucket.left) / self._per_s
            for name, bucket in self._buckets.items()
        }
        gone = [name for name, at in full_at.items() if at <= now]
        for name in gone or sorted(full_at, key=lambda name: full_at[name])[: self._names_max // 2 + 1]:
            del self._buckets[name]

"""Whether two sets of patients differ by fewer than k of them, told from a few numbers that are kept of each.

Of a set are kept its first power sums in a finite field: how many patients, the sum of their numbers, of the squares
of their numbers, and so on. The differences of the sums of two sets are those of the patients who are in one and not
in the other, each counted with a sign. Such a sequence obeys a linear recurrence whose order is how many they are,
and Berlekamp and Massey's algorithm finds the order from twice as many terms. So nothing but these terms has to be
kept of a hundred thousand patients, and the answer is exact but for one time in some two billion.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_PRIME = 2**31 - 1
"""The product of two numbers below it fits into 64 bits."""
_TYPE = "<u4"


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is kept of a set: how many are in it, and their power sums from the first on."""

    count: int
    sums: tuple[int, ...]

    @classmethod
    def of(cls, row_ids: Iterable[int], k: int) -> "Sketch":
        """Return the sketch of a set of rows, which can be told from others by fewer than ``k``."""
        numbers = np.fromiter(row_ids, np.uint64)
        numbers %= np.uint64(_PRIME)
        powers, sums = numbers.copy(), []
        for _ in range(2 * k + 1):
            sums.append(int(powers.sum()) % _PRIME)
            powers = powers * numbers % np.uint64(_PRIME)
        return cls(len(numbers), tuple(sums))

    def resembles(self, other: "Sketch", k: int) -> bool:
        """Return whether fewer than ``k`` are in one of both and not in the other. Both are made for this ``k``."""
        if abs(self.count - other.count) >= k:
            return False
        terms = ((self.count, *self.sums), (other.count, *other.sums))
        return _order([(own - its) % _PRIME for own, its in zip(*terms, strict=True)]) < k

    def dump(self) -> bytes:
        """Return the sums as they are kept."""
        return np.array(self.sums, _TYPE).tobytes()

    @classmethod
    def load(cls, count: int, sums: bytes) -> "Sketch":
        """Return the sketch of what ``dump`` has made."""
        return cls(count, tuple(int(one) for one in np.frombuffer(sums, _TYPE)))


def _order(terms: Sequence[int]) -> int:
    """Return the order of the shortest linear recurrence that a sequence obeys (Berlekamp and Massey)."""
    current, before = [1], [1]
    order, since, last = 0, 1, 1
    for place in range(len(terms)):
        error = sum(factor * terms[place - back] for back, factor in enumerate(current[: order + 1])) % _PRIME
        if not error:
            since += 1
            continue
        scale = error * pow(last, -1, _PRIME) % _PRIME
        changed = current + [0] * (len(before) + since - len(current))
        for back, factor in enumerate(before):
            changed[back + since] = (changed[back + since] - scale * factor) % _PRIME
        if 2 * order <= place:
            before, order, last, since = current, place + 1 - order, error, 1
        else:
            since += 1
        current = changed
    return order

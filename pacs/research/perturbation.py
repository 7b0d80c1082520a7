"""How an exact count becomes one that may be shown: noise that its set fixes, multiples of k, and nothing below k.

The noise is drawn by a keyed digest of the very patients that are counted, and of how much each of them adds. The same
are given the same noise however, whenever and by whomever they are asked for, so that asking again teaches nothing.
Its width is that of what one patient can add (a two-sided geometric distribution, as differential privacy has it).
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

from pacs.deid import ProjectKey

_SCALE = 0.5
"""Of k: the noise of a count of patients is k / 2 wide, and never more than ``_FURTHEST`` times as much."""
_FURTHEST = 6


def draw(key: ProjectKey, k: int, kind: str, shares: Mapping[int, int]) -> int | None:
    """Return how much there is in all, as it may be shown; None is fewer than k, or of fewer than k patients.

    ``shares`` is what each patient adds, by his row; ``kind`` is what is counted.
    """
    if len(shares) < k:
        return None
    ordered = sorted(shares.items())
    # As wide as the patient who adds most: that he is among them must not show either.
    width = _SCALE * k * max(shares.values())
    noisy = sum(shares.values()) + noise(key, kind, [number for pair in ordered for number in pair], width)
    rounded = k * math.floor(noisy / k + 0.5)
    return rounded if rounded >= k else None


def noise(key: ProjectKey, kind: str, seed: Sequence[int], scale: float) -> int:
    """Return a whole number around 0, the same for the same key, kind and numbers, in their order."""
    digest = hashlib.sha256(",".join(map(str, seed)).encode()).hexdigest()
    drawn = int.from_bytes(key.derive(f"noise-{kind}", digest)[:8], "big") / 2**64 - 0.5
    size = -scale * math.log(max(1 - 2 * abs(drawn), math.exp(-_FURTHEST)))
    return int(math.copysign(math.floor(size), drawn))

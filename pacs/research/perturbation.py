"""How an exact count becomes one that may be shown: noise that its set fixes, multiples of k, and nothing below k.

The noise is drawn by a keyed digest of the very patients that are counted. The same patients are given the same noise
however, whenever and by whomever they are asked for, so that asking again teaches nothing; other patients, even if it
is one more or less, are given another. Its size is that of what one patient can add (a two-sided geometric
distribution, as differential privacy has it): a difference of two counts tells more of the noise than of him.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pacs.deid import ProjectKey
from pacs.research.model import Shown, ShownCounts

_SCALE = 0.5
"""Of k: the noise of a count of patients is k / 2 wide, and never more than ``_FURTHEST`` times as much."""
_FURTHEST = 6


@dataclass(frozen=True, slots=True)
class PatientCounts:
    """How much of one patient was found."""

    patient_row_id: int
    studies: int
    series: int
    instances: int


def show_patients(key: ProjectKey, k: int, patient_row_ids: Iterable[int]) -> Shown:
    """Return how many patients there are, as it may be shown."""
    rows = sorted(set(patient_row_ids))
    if len(rows) < k:
        return Shown(None, k)
    return _round(len(rows) + noise(key, "patients", rows, _SCALE * k), k)


def show_counts(key: ProjectKey, k: int, found: Iterable[PatientCounts]) -> ShownCounts:
    """Return how many there are of all levels, as it may be shown: nothing of any, where there are too few patients."""
    counted = sorted(found, key=lambda one: one.patient_row_id)
    patients = show_patients(key, k, (one.patient_row_id for one in counted))
    if patients.number is None:
        return ShownCounts(*(Shown(None, k) for _ in range(4)))

    def level(name: str) -> Shown:
        numbers = {one.patient_row_id: int(getattr(one, name)) for one in counted}
        seed = [number for pair in numbers.items() for number in pair]
        # As wide as the patient who adds most: that he is among them must not show either.
        return _round(sum(numbers.values()) + noise(key, name, seed, _SCALE * k * max(numbers.values())), k)

    return ShownCounts(patients, level("studies"), level("series"), level("instances"))


def _round(noisy: int, k: int) -> Shown:
    rounded = k * math.floor(noisy / k + 0.5)
    return Shown(rounded if rounded >= k else None, k)


def noise(key: ProjectKey, kind: str, seed: Sequence[int], scale: float) -> int:
    """Return a whole number around 0, the same for the same key, kind and numbers, in their order."""
    digest = hashlib.sha256(",".join(map(str, seed)).encode()).hexdigest()
    drawn = int.from_bytes(key.derive(f"noise-{kind}", digest)[:8], "big") / 2**64 - 0.5
    size = -scale * math.log(max(1 - 2 * abs(drawn), math.exp(-_FURTHEST)))
    return int(math.copysign(math.floor(size), drawn))

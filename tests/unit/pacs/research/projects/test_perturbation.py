"""What a count shows: many, about; and of one, whether he is among them, hardly anything."""

import random
from statistics import mean

from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.deid import ProjectKey
from pacs.research.perturbation import draw, noise
from pacs.research.resemblance import Sketch

KEY = ProjectKey(bytes(range(32)))
OTHER_KEY = ProjectKey(bytes(32))
K = 5

patients = st.sets(st.integers(1, 10**6), max_size=60)


def drawn(rows, k=K):
    return draw(KEY, k, "patients", dict.fromkeys(rows, 1))


@settings(max_examples=100, deadline=None)
@given(patients, st.integers(2, 20))
def test_a_count_is_a_multiple_of_k_near_the_truth_and_never_of_fewer_than_k(rows, k):
    number = drawn(rows, k)
    if len(rows) < k:
        assert number is None
    if number is not None:
        assert number % k == 0
        assert number >= k
        assert abs(number - len(rows)) <= 3 * k + k / 2 + 1


@given(st.lists(st.integers(1, 1000), unique=True, max_size=40), st.randoms())
def test_the_same_patients_show_the_same_in_whatever_order_they_are_found(rows, chance):
    shuffled = rows[:]
    chance.shuffle(shuffled)
    assert drawn(rows) == drawn(shuffled)


def test_noise_is_that_of_the_project_and_of_the_kind():
    found = [noise(key, kind, range(50), 100) for key in (KEY, OTHER_KEY) for kind in ("patients", "studies")]
    assert len(set(found)) == 4


def test_noise_is_around_nothing_and_as_wide_as_it_is_said_to_be():
    found = [noise(KEY, "patients", [number], 2.5) for number in range(20_000)]
    assert abs(mean(found)) < 0.1
    assert 1.5 < mean(abs(one) for one in found) < 2.6
    assert max(map(abs, found)) <= 15


def test_one_patient_more_or_less_can_hardly_be_told():
    """Whoever knows all others, and so how many they are, guesses from the count whether one more is among them."""
    right = 0
    for number in range(2000):
        chance = random.Random(number)
        others = chance.sample(range(10**6), chance.randint(20, 60))
        is_among = chance.random() < 0.5
        shown = drawn([*others, 10**6 + number] if is_among else others)
        right += (shown > len(others) + 0.5) == is_among
    assert right / 2000 < 0.6


def test_a_patient_who_has_most_of_what_is_counted_does_not_show_by_it():
    shares = dict.fromkeys(range(1, 31), 100)
    shown = [draw(KEY, K, "instances", shares | {10**6 + number: 40_000}) or 0 for number in range(200)]
    # What he adds is about as much as what is added to hide him.
    assert max(shown) - min(shown) > 40_000


@settings(max_examples=100, deadline=None)
@given(patients, st.lists(st.integers(1, 10**6), max_size=30), st.integers(2, 12))
def test_sets_resemble_each_other_if_fewer_than_k_are_in_one_of_them_alone(rows, changed, k):
    other = set(rows)
    for one in changed:
        other ^= {one}
    own, its = Sketch.of(rows, k), Sketch.of(other, k)
    assert Sketch.load(own.count, own.dump()) == own
    assert own.resembles(its, k) == its.resembles(own, k) == (len(rows ^ other) < k)

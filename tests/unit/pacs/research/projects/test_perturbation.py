"""What a count shows: many, about; and of one, whether he is among them, hardly anything."""

import random
from statistics import mean

from hypothesis import given, settings
from hypothesis import strategies as st

from pacs.deid import ProjectKey
from pacs.research.perturbation import PatientCounts, noise, show_counts, show_patients

KEY = ProjectKey(bytes(range(32)))
OTHER_KEY = ProjectKey(bytes(32))
K = 5

patients = st.sets(st.integers(1, 10**6), max_size=60)


@settings(max_examples=200, deadline=None)
@given(patients, st.integers(2, 20))
def test_a_count_is_a_multiple_of_k_near_the_truth_and_never_of_fewer_than_k(rows, k):
    shown = show_patients(KEY, k, rows)
    if len(rows) < k:
        assert shown.number is None
    if shown.number is not None:
        assert shown.number % k == 0
        assert shown.number >= k
        assert abs(shown.number - len(rows)) <= 3 * k + k / 2 + 1


@given(st.lists(st.integers(1, 1000), unique=True, max_size=40), st.randoms())
def test_the_same_patients_show_the_same_in_whatever_order_and_however_often(rows, chance):
    shuffled = rows[:]
    chance.shuffle(shuffled)
    assert show_patients(KEY, K, rows) == show_patients(KEY, K, shuffled + rows)


def test_noise_is_that_of_the_project_and_of_the_kind():
    drawn = [noise(key, kind, range(50), 100) for key in (KEY, OTHER_KEY) for kind in ("patients", "studies")]
    assert len(set(drawn)) == 4


def test_noise_is_around_nothing_and_as_wide_as_it_is_said_to_be():
    drawn = [noise(KEY, "patients", [number], 2.5) for number in range(20_000)]
    assert abs(mean(drawn)) < 0.1
    assert 1.5 < mean(abs(one) for one in drawn) < 2.6
    assert max(map(abs, drawn)) <= 15


def test_one_patient_more_or_less_can_hardly_be_told():
    """Whoever knows all others, and so how many they are, guesses from the count whether one more is among them."""
    right = 0
    for number in range(4000):
        chance = random.Random(number)
        others = chance.sample(range(10**6), chance.randint(20, 60))
        is_among = chance.random() < 0.5
        shown = show_patients(KEY, K, [*others, 10**6 + number] if is_among else others).number
        right += (shown > len(others) + 0.5) == is_among
    assert right / 4000 < 0.6


def test_a_patient_who_has_most_of_what_is_counted_does_not_show_by_it():
    others = [PatientCounts(number, 1, 1, 100) for number in range(1, 31)]
    shown = []
    for number in range(200):
        many = PatientCounts(10**6 + number, 40, 400, 40_000)
        shown.append(show_counts(KEY, K, [*others, many]).instances.number or 0)
    # What he adds is about as much as what is added to hide him.
    assert max(shown) - min(shown) > 40_000


def test_where_there_are_too_few_patients_nothing_is_counted():
    counts = show_counts(KEY, K, [PatientCounts(number, 50, 500, 5000) for number in range(4)])
    assert {str(one) for one in (counts.patients, counts.studies, counts.series, counts.instances)} == {"fewer than 5"}
    assert show_counts(KEY, K, []).patients.number is None

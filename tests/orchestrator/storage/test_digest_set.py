"""A set of strings by digest: it answers as a set would, in bounded memory."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.storage import digest_set
from orchestrator.storage.digest_set import DIGEST_BYTES, FIRST_PLACES, DigestSet

strings = st.lists(st.text(st.characters(codec=None), max_size=3), max_size=50)


@given(strings, strings)
def test_it_holds_what_was_added_and_nothing_else(added, others):
    digests, model = DigestSet(added), set(added)
    assert len(digests) == len(model)
    assert all((string in digests) == (string in model) for string in added + others)


def test_nothing_is_lost_while_it_grows():
    digests = DigestSet()
    for number in range(3000):
        digests.add(f"row-{number}")
        digests.add(f"row-{number // 2}")
    assert len(digests) == 3000
    assert all(f"row-{number}" in digests for number in range(3000))
    assert not any(f"row-{number}" in digests for number in range(3000, 6000))


def test_strings_that_want_the_same_place_are_told_apart(monkeypatch):
    crowded = {string: bytes([7] * 8) + string.encode().ljust(8) for string in ("a", "b", "c", "d")}
    monkeypatch.setattr(digest_set, "_digest", crowded.__getitem__)
    digests = DigestSet(["a", "b", "c"])
    assert len(digests) == 3 and "c" in digests and "d" not in digests


def test_at_least_a_quarter_and_at_most_half_of_the_places_are_taken():
    digests = DigestSet()
    for number in range(5000):
        digests.add(str(number))
        num_places = len(digests._table) // DIGEST_BYTES
        assert 2 * len(digests) <= num_places and num_places <= max(FIRST_PLACES, 4 * len(digests))

"""The automaton of a formula against looking through the text."""

import math
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.decoding.constraints import MAX_STATES, OTHER, Automaton, Occurs

A, B, C, FREE = 1, 2, 3, 4
"""The last is in no phrase."""

LONGEST = 5
TEXTS = [text for length in range(LONGEST + 1) for text in product((A, B, C, FREE), repeat=length)]

spellings = st.lists(st.sampled_from((A, B, C)), min_size=1, max_size=3).map(tuple)
literals = st.tuples(st.frozensets(spellings, min_size=1, max_size=2), st.booleans())
formulas = st.lists(st.lists(literals, min_size=1, max_size=3), max_size=3)
"""Not yet `Occurs`: the type checker that watches tests draws random numbers, which a strategy must not."""


def says(*phrase, wanted=True):
    return Occurs(frozenset([phrase]), wanted)


def formula_of(drawn):
    return [[Occurs(frozenset(phrase), wanted) for phrase, wanted in clause] for clause in drawn]


def occurs_in(literal, text):
    return any(text[i : i + len(s)] == s for s in literal.phrase for i in range(len(text) - len(s) + 1))


def satisfied_by(formula, text):
    return tuple(any(occurs_in(literal, text) == literal.wanted for literal in clause) for clause in formula)


def progress_of(formula, text):
    """The longest begun share of a wanted phrase in a clause that does not hold, read off the end of the text."""
    wanted = [
        literal
        for clause, holds in zip(formula, satisfied_by(formula, text), strict=True) if not holds
        for literal in clause if literal.wanted
    ]  # fmt: skip
    shares = [
        length / len(spelling)
        for literal in wanted
        for spelling in literal.phrase
        for length in range(1, len(spelling) + 1)
        if text[-length:] == spelling[:length]
    ]
    return max(shares, default=0.0)


def after(automaton, text):
    state = automaton.start
    for token in text:
        state = automaton.step(state, token)
    return state


@settings(deadline=None, max_examples=50)
@given(formulas)
@example([[({(A, B)}, True)], [({(B, C)}, True)]])
@example([[({(A, B, A)}, True), ({(C,)}, False)], [({(B, A, B)}, True)]])
@example([[({(A, B, C)}, True), ({(B,)}, True)], [({(B,)}, False)]])
def test_the_automaton_says_of_every_text_what_looking_through_it_says(drawn):
    formula = formula_of(drawn)
    automaton = Automaton(formula)
    least = {text: 0 for text in TEXTS if all(satisfied_by(formula, text))}
    for text in reversed(TEXTS):
        if text and text in least:
            least[text[:-1]] = min(least.get(text[:-1], LONGEST), least[text] + 1)
    states = {}
    for text in TEXTS:
        state = automaton.step(states[text[:-1]], text[-1]) if text else automaton.start
        states[text] = state
        assert automaton.satisfied(state) == satisfied_by(formula, text)
        assert automaton.holds(state) == all(satisfied_by(formula, text))
        assert automaton.progress(state) == progress_of(formula, text)
        if text in least:
            assert automaton.distance(state) == least[text]
        else:
            assert automaton.distance(state) > LONGEST - len(text)


@settings(deadline=None, max_examples=50)
@given(formulas)
def test_a_distance_shrinks_by_one_token_at_most_and_some_token_does_it(drawn):
    automaton = Automaton(formula_of(drawn))
    for text in TEXTS[: 4**3]:
        state = after(automaton, text)
        nearest = min(automaton.distance(automaton.step(state, token)) for token in (A, B, C, OTHER))
        if automaton.distance(state) > 0:
            assert nearest == automaton.distance(state) - 1  # infinity less one is infinity
        else:
            assert nearest == 0


@pytest.mark.parametrize(
    ("formula", "least"),
    [
        ([], 0),
        ([[says(A, B)], [says(B, C)]], 3),
        ([[says(A, B)], [says(B, A)], [says(A, A)]], 4),
        ([[says(A, B, C)], [says(C, A)], [says(B, B)]], 6),
        ([[says(A, B), says(C)], [says(C, wanted=False), says(B)]], 2),
        ([[says(B)], [says(A)], [says(A, B, wanted=False)], [says(B, A, wanted=False)]], 3),
        ([[says(A)], [says(A, wanted=False)]], math.inf),
        ([[says(A, B)], [says(B, wanted=False)]], math.inf),
    ],
)
def test_the_shortest_text_that_satisfies_a_formula(formula, least):
    automaton = Automaton(formula)
    assert automaton.distance(automaton.start) == least


def test_either_spelling_of_a_phrase_will_do():
    literal = Occurs(frozenset({(A, B), (C,)}))
    wanted, unwanted = Automaton([[literal]]), Automaton([[Occurs(literal.phrase, wanted=False)]])
    for text, occurs in (((A, B), True), ((C,), True), ((A, FREE, B), False)):
        assert wanted.holds(after(wanted, text)) is occurs
        assert unwanted.holds(after(unwanted, text)) is not occurs


def test_phrases_no_text_can_have_are_refused():
    with pytest.raises(ValueError, match="an empty phrase"):
        Automaton([[says()]])
    with pytest.raises(ValueError, match="end-of-text token 3"):
        Automaton([[says(A), says(B, C)]], end_id=C)


def test_too_many_phrases_are_refused_by_their_number():
    assert Automaton([[says(token)] for token in range(9)]).distance(Automaton.start) == 9
    with pytest.raises(ValueError, match=f"clauses: 14 distinct phrases .* more than {MAX_STATES}"):
        Automaton([[says(token)] for token in range(14)])
    repeated = Automaton([[says(A)], [says(A), says(B)], [says(A, wanted=False), says(B)]] * 9)
    assert repeated.distance(Automaton.start) == 2

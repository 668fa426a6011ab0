"""Figures over what greedy decoding says, and the name of each kind of failure."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.certificate import certify
from engine.monitors import Diagnosis, diagnose, first_mismatch, monitor, seq_rep, token_accuracy
from engine.target import Target

END = 0
tokens = st.lists(st.integers(0, 3), max_size=13)
texts = st.lists(st.integers(0, 3), min_size=1, max_size=13)


def ending(*token_ids: int) -> Target:
    return Target("a", "text", (*token_ids, END))


def endless(*token_ids: int) -> Target:
    return Target("a", "text", token_ids, ends=False)


@given(tokens, texts)
def test_token_accuracy_counts_the_targets_positions_one_by_one(generated, target):
    right = 0
    for t in range(len(target)):
        if t < len(generated) and generated[t] == target[t]:
            right += 1
    assert token_accuracy(generated, target) == right / len(target)


@given(tokens, texts)
def test_the_first_mismatch_is_where_a_slow_loop_stops(generated, target):
    t = 0
    while t < len(target) and t < len(generated) and generated[t] == target[t]:
        t += 1
    assert first_mismatch(generated, target) == t


@given(tokens, st.integers(1, 5))
def test_repetition_counts_the_n_grams_that_stood_before(sequence, n):
    repeats = num_grams = 0
    for t in range(len(sequence) - n + 1):
        gram = sequence[t : t + n]
        repeats += any(sequence[before : before + n] == gram for before in range(t))
        num_grams += 1
    assert seq_rep(sequence, n) == pytest.approx(repeats / num_grams if num_grams else 0.0)


def test_repetition_of_known_texts():
    assert seq_rep([7] * 13, 4) == 1 - 1 / 10
    assert seq_rep(list(range(13)), 4) == seq_rep([7] * 3, 4) == seq_rep([], 4) == 0
    assert seq_rep([1, 2, 1, 2, 1, 2], 2) == pytest.approx(1 - 2 / 5)


T11 = tuple(range(1, 12))
"""A text without a repeat."""

CASES: dict[str, tuple[Diagnosis, list[int], Target]] = {
    "the text and its end": (Diagnosis.EXACT, [*T11, END], ending(*T11)),
    "the text, no end asked for": (Diagnosis.EXACT, [*T11], endless(*T11)),
    "a loop that is the text": (Diagnosis.EXACT, [7] * 9 + [END], ending(*[7] * 9)),
    "half of it and the end": (Diagnosis.EARLY_STOP, [1, 2, 3, 4, 5, END], ending(*T11)),
    "nothing but the end": (Diagnosis.EARLY_STOP, [END], ending(*T11)),
    "all but a token and the end": (Diagnosis.EARLY_STOP, [*T11[:-1], END], ending(*T11)),
    "a loop that ends too soon": (Diagnosis.EARLY_STOP, [7] * 8 + [END], ending(*[7] * 9)),
    "all of it, then more": (Diagnosis.LATE_STOP, [*T11, 50, 51], ending(*T11)),
    "all of it, then one more and the end": (Diagnosis.LATE_STOP, [*T11, 50, END], ending(*T11)),
    "all of it, then the last token for ever": (Diagnosis.LATE_STOP, [*T11, *[11] * 30], ending(*T11)),
    "a loop that does not end": (Diagnosis.LATE_STOP, [7] * 15, ending(*[7] * 9)),
    "a token too much in front": (Diagnosis.OFF_BY_ONE, [50, *T11, END], ending(*T11)),
    "a token too much in front, cut off": (Diagnosis.OFF_BY_ONE, [50, *T11], ending(*T11)),
    "the first token left out": (Diagnosis.OFF_BY_ONE, [*T11[1:], END], ending(*T11)),
    "the second token left out": (Diagnosis.OFF_BY_ONE, [1, *T11[2:], END], ending(*T11)),
    "the first token twice": (Diagnosis.OFF_BY_ONE, [1, *T11, END], ending(*T11)),
    "one token for ever": (Diagnosis.LOOP, [50] * 12, ending(*T11)),
    "a right beginning, then one token for ever": (Diagnosis.LOOP, [1, 2, 3, *[50] * 9], ending(*T11)),
    "a phrase for ever": (Diagnosis.LOOP, [1, 2, 3, 4] * 5, ending(*T11)),
    "a phrase for ever, no end asked for": (Diagnosis.LOOP, [50, 51] * 10, endless(*T11)),
    "a right beginning": (Diagnosis.DRIFT, [1, 2, 3, 60, 61, 62, 63, 64, 65, 66, 67, END], ending(*T11)),
    "one wrong token in the middle": (Diagnosis.DRIFT, [1, 2, 3, 4, 5, 60, *T11[6:], END], ending(*T11)),
    "a right beginning, cut off": (Diagnosis.DRIFT, [1, 2, 3], endless(*T11)),
    "a repetitive text, left half-way": (Diagnosis.DRIFT, [7] * 8 + list(range(50, 59)), ending(*[7] * 16)),
    "one wrong token in a repetitive text": (Diagnosis.DRIFT, [7, 7, 7, 7, 9, 7, 7, 7, 7, 7, END], ending(*[7] * 10)),
    "backwards": (Diagnosis.SCRAMBLE, [*reversed(T11), END], ending(*T11)),
    "two halves swapped": (Diagnosis.SCRAMBLE, [*T11[6:], *T11[:6], END], ending(*T11)),
    "something else": (Diagnosis.UNRELATED, list(range(50, 61)), ending(*T11)),
    "two tokens from further on": (Diagnosis.UNRELATED, [2, 3], ending(*T11)),
    "nothing": (Diagnosis.UNRELATED, [], ending(*T11)),
    "a word that ends in a double letter": (Diagnosis.UNRELATED, [50, 2, 3, 3], endless(1, 2, 3, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_failure_is_called_by_its_name(case):
    expected, generated, target = CASES[case]
    assert diagnose(generated, target) is expected


def test_every_diagnosis_has_an_example():
    assert {expected for expected, _, _ in CASES.values()} == set(Diagnosis)


@given(tokens, texts, st.booleans())
def test_a_text_is_called_exact_if_and_only_if_it_is(generated, target, ends):
    said = diagnose(generated, Target("a", "text", tuple(target), ends=ends))
    assert (said is Diagnosis.EXACT) == (generated == target)


@given(texts, st.booleans())
def test_a_text_beside_itself_is_exact(target, ends):
    assert diagnose(target, Target("a", "text", tuple(target), ends=ends)) is Diagnosis.EXACT


@given(st.lists(st.integers(1, 3), min_size=1, max_size=13), st.data())
def test_a_right_text_that_stops_anywhere_is_an_early_stop_and_nothing_else(target, data):
    kept = data.draw(st.integers(0, len(target) - 1))
    assert diagnose([*target[:kept], END], ending(*target)) is Diagnosis.EARLY_STOP


@given(st.lists(st.integers(1, 3), min_size=1, max_size=13), st.lists(st.integers(1, 3), min_size=1, max_size=13))
def test_a_right_text_that_goes_on_is_a_late_stop_whatever_follows(target, more):
    assert diagnose([*target, *more], ending(*target)) is Diagnosis.LATE_STOP


def test_a_monitor_holds_what_was_promised_beside_what_was_said():
    target = ending(*T11)
    certificate = certify(torch.tensor([1.0] * 9 + [-0.25, 2.0, 3.0]), torch.full((12,), 0.5))
    seen = monitor(certificate, [1, 2, 3, *[50] * 9], target)
    assert (seen.teacher_forced_nats, seen.min_margin, seen.first_mismatch) == (0.5, -0.25, 3)
    assert seen.teacher_forced_accuracy == 11 / 12 and seen.token_accuracy == 3 / 12
    assert seen.gap == pytest.approx(8 / 12)
    assert seen.seq_rep_4 == pytest.approx(5 / 9) and seen.diagnosis is Diagnosis.LOOP


def test_a_certified_text_that_is_said_has_no_gap():
    target = ending(*T11)
    seen = monitor(certify(torch.ones(12)), target.token_ids, target)
    assert (seen.gap, seen.token_accuracy, seen.first_mismatch) == (0.0, 1.0, 12)
    assert seen.diagnosis is Diagnosis.EXACT and math.isnan(seen.teacher_forced_nats)

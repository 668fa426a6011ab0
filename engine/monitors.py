"""Monitors: what greedy decoding says beside what teacher forcing promised, and what kind of failure it is.

Owns: figures over token sequences, the failure taxonomy. Must not know: models, optimisation.

Sequences are token ids; the end-of-text token, where stopping is asked for, is the target's last one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.certificate import Certificate
from engine.target import Target

LOOP_REPEATS = 0.5
"""seq-rep-4 from which a text is a loop. Assumption."""

MOSTLY = 0.8
"""Share of agreeing tokens from which a shift or a scramble is called one. Assumption."""


class Diagnosis(StrEnum):
    """What a continuation is, beside its target."""

    EXACT = "exact"
    EARLY_STOP = "early_stop"  # right, but the end-of-text token came too soon
    LATE_STOP = "late_stop"  # right to the last token, and then it went on
    OFF_BY_ONE = "off_by_one"  # the target, shifted by one token
    LOOP = "loop"  # repeats itself
    DRIFT = "drift"  # a right beginning, then something else
    SCRAMBLE = "scramble"  # the target's tokens in another order
    UNRELATED = "unrelated"  # none of these


@dataclass(frozen=True)
class Monitor:
    """One text's figures.

    Attributes:
        teacher_forced_nats: mean cross-entropy under the true prefix.
        teacher_forced_accuracy: share of right argmaxes under the true prefix.
        token_accuracy: share of right tokens in free-running greedy decoding.
        first_mismatch: of the free-running text; T if there is none.
        min_margin: smallest margin, logits.
        seq_rep_4: share of the free-running text's 4-grams that are repeats.
    """

    teacher_forced_nats: float
    teacher_forced_accuracy: float
    token_accuracy: float
    first_mismatch: int
    min_margin: float
    seq_rep_4: float
    diagnosis: Diagnosis

    @property
    def gap(self) -> float:
        """What teacher forcing promises and free running does not keep, share of tokens."""
        return self.teacher_forced_accuracy - self.token_accuracy


def monitor(certificate: Certificate, generated: Sequence[int], target: Target) -> Monitor:
    """Figures of a measured prompt and of what greedy decoding said after it."""
    return Monitor(
        teacher_forced_nats=certificate.mean_nats,
        teacher_forced_accuracy=certificate.accuracy,
        token_accuracy=token_accuracy(generated, target.token_ids),
        first_mismatch=first_mismatch(generated, target.token_ids),
        min_margin=certificate.min_margin,
        seq_rep_4=seq_rep(generated, 4),
        diagnosis=diagnose(generated, target),
    )


def token_accuracy(generated: Sequence[int], target: Sequence[int]) -> float:
    """Share of the target's positions at which the continuation has the same token."""
    return _num_agreeing(generated, target) / len(target)


def first_mismatch(generated: Sequence[int], target: Sequence[int]) -> int:
    """First position whose token is wrong or missing; the target's length if there is none."""
    pairs = enumerate(zip(generated, target, strict=False))
    return next((t for t, (ours, theirs) in pairs if ours != theirs), min(len(generated), len(target)))


def seq_rep(tokens: Sequence[int], n: int) -> float:
    """`1 - unlike n-grams / n-grams`; 0 for a text shorter than n. Source: Welleck et al. 2020, 1908.04319, 5.3."""
    grams = [tuple(tokens[t : t + n]) for t in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def diagnose(generated: Sequence[int], target: Target) -> Diagnosis:
    """The failure's kind; the first that fits, in the order of this function."""
    ours, theirs = list(generated), list(target.token_ids)
    right = first_mismatch(ours, theirs)
    if right == len(theirs) and len(ours) == len(theirs):
        return Diagnosis.EXACT
    if target.ends and right == len(ours) - 1 and ours[-1] == theirs[-1]:
        return Diagnosis.EARLY_STOP
    if right >= len(theirs) - target.ends:
        return Diagnosis.LATE_STOP
    shifted = max(_num_agreeing(ours[1:], theirs), _num_agreeing(ours, theirs[1:]))
    # A repetitive text agrees with itself shifted; then the shift explains nothing. One token alone is chance.
    if shifted >= max(2, MOSTLY * (len(theirs) - 1)) and shifted > _num_agreeing(ours, theirs):
        return Diagnosis.OFF_BY_ONE
    if _loops(ours) and not _loops(theirs):
        return Diagnosis.LOOP
    if right > 0:
        return Diagnosis.DRIFT
    if sum((Counter(ours) & Counter(theirs)).values()) >= MOSTLY * len(theirs):
        return Diagnosis.SCRAMBLE
    return Diagnosis.UNRELATED


def _num_agreeing(ours: Sequence[int], theirs: Sequence[int]) -> int:
    return sum(a == b for a, b in zip(ours, theirs, strict=False))


def _loops(tokens: Sequence[int]) -> bool:
    """Whether most 4-grams are repeats, or the second half is one token over and over."""
    tail = tokens[len(tokens) // 2 :]
    return seq_rep(tokens, 4) >= LOOP_REPEATS or (len(tokens) > 2 and len(set(tail)) == 1)

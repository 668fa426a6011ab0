"""What a verifier is: the record it receives, the verdict it gives, and what it refuses to judge.

Owns: the contract every verifying engine meets. Must not know: the solver, its losses, its certificate.

K soft-prompt vectors, T target tokens, D hidden size.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

BEAMS = 4
"""Width of the beam search that a run with `proof = "beam"` and the ladder ask for."""

SLACK_TOKENS = 8
"""Tokens decoded past the target's length, so that a text that does not stop is told from one that does."""


@dataclass(frozen=True)
class Candidate:
    """A soft prompt and the tokens it is claimed to say.

    Attributes:
        id: the text's id.
        prompt_KD: (K, D) float32.
        token_ids: T target tokens, the end-of-text token last where stopping is part of the target.
        for_beams: whether it is claimed that a beam search of `BEAMS` says them too.
    """

    id: str
    prompt_KD: np.ndarray
    token_ids: tuple[int, ...]
    for_beams: bool = False


@dataclass(frozen=True)
class Mode:
    """How candidates are decoded.

    Attributes:
        beams: width of the beam search; 1 is greedy, and `exact` in a run's results means that alone.
        batch_size: most candidates decoded together; None leaves it to the engine.
        margins: whether the engine's own margins of what it says are asked for; greedy only.
        scored: whether the margin of every target token is asked for, those of a text that is said otherwise too: one
            pass over prompt and target, where decoding takes one a token.
        decoded: whether anything is decoded; without it nothing is exact, whatever the margins.
    """

    beams: int = 1
    batch_size: int | None = None
    margins: bool = False
    scored: bool = False
    decoded: bool = True


GREEDY = Mode()
GREEDY_AND_SCORED = Mode(scored=True)
SCORED = Mode(scored=True, decoded=False)

MOST_LOGITS = 2**26
"""Logits of a text, in numbers, beyond which it is not scored: engines hold those of a prompt at once, beside memory
that was counted without them. 256 MiB in float32: 512 positions of a vocabulary of 128 thousand. Assumption."""


@dataclass(frozen=True)
class Said:
    """What an engine emitted after one prompt.

    Attributes:
        token_ids: the end-of-text token included where it was reached.
        margins: of each emitted token over its best rival, logits; None if not asked for.
    """

    token_ids: list[int]
    margins: list[float] | None = None


@dataclass(frozen=True)
class Verdict:
    """What an engine said when it decoded freely.

    Attributes:
        exact: the tokens emitted are the target's, all of them and in order, and nothing else.
        generated_ids: the tokens emitted; empty where the candidate was refused.
        first_mismatch: first position that differs; T if none.
        engine: `vllm` or `hf`, with its version.
        engine_dtype: numerics of the engine.
        refusal: why the candidate was not decoded, or None.
        margins: of each right token over its best rival in the engine's own numerics, logits, up to the first
            mismatch; None if not asked for.
        target_margins: of every target token over its best rival in the engine's own numerics, under the true prefix,
            logits; None if not asked for, or where the text is too long to be scored (`MOST_LOGITS`).
        beams: width of the search that emitted them; 1 is greedy. A claim for beams that is exact was so in both.
    """

    id: str
    exact: bool
    generated_ids: tuple[int, ...]
    first_mismatch: int
    engine: str
    engine_dtype: str
    refusal: str | None = None
    margins: tuple[float, ...] | None = None
    beams: int = 1
    target_margins: tuple[float, ...] | None = None


class Verifier(ABC):
    """An engine that decodes candidates and is alone in saying `exact`.

    Attributes:
        engine: name and version.
        engine_dtype: its numerics.
        context: longest soft prompt and target together, in positions.
        end_id: the tokenizer's end-of-text token, the one token that ends a text; None where it has none. Others that
            a model's files call so end nothing here, because no target holds them.
        can_score: whether it reads this model's texts; where it does not, what is to be scored alone is decoded, and
            its margins are those of what is said.
    """

    engine: str
    engine_dtype: str
    hidden_size: int
    context: int
    end_id: int | None
    vocab_size: int
    can_score: bool = True

    def judge(self, candidates: list[Candidate], mode: Mode = GREEDY) -> list[Verdict]:
        """One verdict for each candidate, in order. A candidate that cannot be decoded is refused, not raised.

        Greedy decoding is followed by beams where they are claimed: what these say is the verdict then.
        """
        verdicts = self._judge(candidates, mode)
        claimed = [i for i, c in enumerate(candidates) if c.for_beams and verdicts[i].exact and mode.beams == 1]
        for i, verdict in zip(claimed, self._judge([candidates[i] for i in claimed], Mode(BEAMS)), strict=True):
            verdicts[i] = replace(verdict, target_margins=verdicts[i].target_margins)
        return verdicts

    def _judge(self, candidates: list[Candidate], mode: Mode) -> list[Verdict]:
        if mode.scored and not self.can_score:
            mode = replace(mode, scored=False, decoded=True, margins=mode.margins or not mode.decoded)
        reasons = [refusal(c, hidden_size=self.hidden_size, context=self.context) for c in candidates]
        sound = [c for c, reason in zip(candidates, reasons, strict=True) if reason is None]
        said = iter(self._decode(sound, mode) if sound and mode.decoded else [])
        margins = self._margins(sound) if mode.scored else {}
        name = {"engine": self.engine, "engine_dtype": self.engine_dtype, "beams": mode.beams}

        def judged(candidate: Candidate, reason: str | None) -> Verdict:
            if reason is not None:
                return refused(candidate, reason, **name)
            if not mode.decoded:
                return scored(candidate, margins.get(id(candidate)), **name)
            found = verdict(candidate, next(said), ends=self._ends(candidate), **name)
            return replace(found, target_margins=margins.get(id(candidate)))

        return [judged(c, reason) for c, reason in zip(candidates, reasons, strict=True)]

    def _margins(self, candidates: list[Candidate]) -> dict[int, tuple[float, ...]]:
        """Margins of every target token, by candidate; of those that are not too long."""
        short = [c for c in candidates if self._can_be_scored(c)]
        return {id(c): tuple(found) for c, found in zip(short, self._score(short) if short else [], strict=True)}

    def _can_be_scored(self, candidate: Candidate) -> bool:
        positions = len(candidate.prompt_KD) + len(candidate.token_ids)
        return positions < self.context and positions * self.vocab_size <= MOST_LOGITS

    @abstractmethod
    def _score(self, candidates: list[Candidate]) -> list[list[float]]:
        """The margin of each target token over its best rival, logits, where prompt and true prefix are read."""

    @abstractmethod
    def _decode(self, candidates: list[Candidate], mode: Mode) -> list[Said]:
        """What the engine emits after each sound candidate's prompt, at most `_limit` tokens, nothing penalised."""

    def _ends(self, candidate: Candidate) -> bool:
        """Whether stopping is part of the target; if not, what follows its last token is not judged."""
        return candidate.token_ids[-1] == self.end_id

    def _limit(self, candidate: Candidate) -> int:
        """Tokens to decode: the target's, and some slack where it must stop by itself, within the context."""
        slack = SLACK_TOKENS if self._ends(candidate) else 0
        return min(len(candidate.token_ids) + slack, self.context - len(candidate.prompt_KD))


def refusal(candidate: Candidate, *, hidden_size: int, context: int) -> str | None:
    """Why a candidate must not reach the engine, or None. vLLM itself checks none of this offline."""
    prompt_KD = candidate.prompt_KD
    if prompt_KD.dtype != np.float32:
        return f"prompt dtype {prompt_KD.dtype}: must be float32"
    if prompt_KD.ndim != 2:
        return f"prompt shape {prompt_KD.shape}: must be (vectors, hidden size)"
    if len(prompt_KD) == 0:
        return "prompt has no vectors: must have at least 1"
    if prompt_KD.shape[1] != hidden_size:
        return f"prompt width {prompt_KD.shape[1]}: this model's hidden size is {hidden_size}"
    if not np.isfinite(prompt_KD).all():
        return "prompt has a non-finite value"
    if not candidate.token_ids:
        return "target has no tokens"
    if len(prompt_KD) + len(candidate.token_ids) > context:
        return f"{len(prompt_KD)} vectors and {len(candidate.token_ids)} tokens: the context holds {context}"
    return None


def verdict(candidate: Candidate, said: Said, *, ends: bool, engine: str, engine_dtype: str, beams: int = 1) -> Verdict:
    """Compare what was emitted with the target.

    Args:
        candidate: the claim.
        said: what the engine emitted.
        ends: whether stopping is part of the target; if not, what follows its last token is not judged.
        engine: name and version of the engine.
        engine_dtype: its numerics.
        beams: width of the search.
    """
    target = candidate.token_ids
    judged = tuple(said.token_ids) if ends else tuple(said.token_ids[: len(target)])
    pairs = enumerate(zip(judged, target, strict=False))
    first_mismatch = next((t for t, (ours, theirs) in pairs if ours != theirs), min(len(judged), len(target)))
    margins = None if said.margins is None else tuple(said.margins[:first_mismatch])
    return Verdict(
        candidate.id, judged == target, judged, first_mismatch, engine, engine_dtype, margins=margins, beams=beams
    )


def scored(
    candidate: Candidate, margins: tuple[float, ...] | None, *, engine: str, engine_dtype: str, beams: int = 1
) -> Verdict:
    """The verdict on a candidate that was not decoded: its margins, and exact never."""
    wrong = next((t for t, margin in enumerate(margins or ()) if not margin > 0), len(candidate.token_ids))
    return Verdict(candidate.id, False, (), wrong, engine, engine_dtype, beams=beams, target_margins=margins)


def refused(candidate: Candidate, reason: str, *, engine: str, engine_dtype: str, beams: int = 1) -> Verdict:
    """The verdict on a candidate that was not decoded."""
    return Verdict(candidate.id, False, (), 0, engine, engine_dtype, refusal=reason, beams=beams)

"""What a loss term may look at: one training pass over B texts, with rollouts made on demand and shared.

Owns: padding, the greedy rollout, sampled rollouts. Must not know: weights, schedules, optimisers.

A term is computed on the texts that ask for it and no others. Terms over positions see all of those side by side, the
others a text at a time. B texts, K soft-prompt vectors, T target tokens, D hidden size, n samples of a text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.decoding.trajectory import greedy_tokens, sample
from engine.frozen_lm import FrozenLM
from engine.head import Scores
from engine.layout import to_device
from engine.losses.position import Knobs
from engine.losses.rewards import REWARDS, cut
from engine.recipe.sections import KnobsRecipe


@dataclass
class Rollout:
    """The model's own greedy continuation of a prompt.

    Attributes:
        token_T: as many tokens as the target has; nothing stops at the end-of-text token.
        hidden_TD: states along that context, differentiable in the prompt; state t predicts token t.
    """

    token_T: Tensor
    hidden_TD: Tensor


@dataclass
class Samples:
    """Sampled continuations of a prompt, and what they earned.

    Attributes:
        log_p_n: log-probability of each sample up to its end, nats, differentiable in the prompt.
        reward_n: in [0, 1].
        token_nT: the samples; after an end-of-text token there is only that token, so samples of one text are alike.
    """

    log_p_n: Tensor
    reward_n: Tensor
    token_nT: Tensor


@dataclass
class TextView:
    """One text in a training pass.

    Attributes:
        prompt_KD: differentiable in what is trained, noise included where there is noise.
        target_T: the tokens that are trained.
        scores_T: of the policy's context.
        hidden_TD: states behind those scores.
        num_given: leading tokens that the policy gives; sampled rollouts begin with them.
        judge: professor forcing's own parameters: weight (D,) and bias (); None where it is off.
        baseline: moving mean of the text's reward.
    """

    prompt_KD: Tensor
    target_T: Tensor
    scores_T: Scores
    hidden_TD: Tensor
    num_given: int
    knobs: KnobsRecipe
    generator: torch.Generator
    judge: tuple[Tensor, Tensor] | None = None
    baseline: float = 0.0
    rollout: Rollout | None = None
    samples: Samples | None = None


class Positions(NamedTuple):
    """The positions of B texts side by side, padded: all that a term over positions looks at."""

    scores_BT: Scores
    mask_BT: Tensor
    knobs: Knobs

    def take(self, row_M: Tensor) -> "Positions":
        """Those of some texts."""

        def rows(column: Tensor) -> Tensor:
            return column.index_select(0, row_M)

        *_, lead_BT = self.knobs
        lead_BT = None if lead_BT is None else rows(lead_BT)
        knobs = Knobs(*map(rows, self.knobs[:4]), lead_BT=lead_BT)
        return Positions(Scores(*map(rows, self.scores_BT)), rows(self.mask_BT), knobs)


class View:
    """B texts of one training pass.

    Args:
        positions: of all texts together.
        texts: makes what terms see that go a text at a time; only asked for by such a term.
    """

    def __init__(self, lm: FrozenLM, positions: Positions, texts: Callable[[], list[TextView]]):
        self.lm, self.positions, self._make_texts = lm, positions, texts

    @cached_property
    def texts(self) -> list[TextView]:
        return self._make_texts()

    def take(self, rows: list[int]) -> "View":
        """The same pass, some of its texts; rollouts made there are seen here."""
        if len(rows) == len(self.positions.mask_BT):
            return self
        row_M = to_device(np.asarray(rows), self.lm.device)
        return View(self.lm, self.positions.take(row_M), lambda: [self.texts[b] for b in rows])

    @cached_property
    def lengths(self) -> list[int]:
        return [len(text.target_T) for text in self.texts]

    @cached_property
    def sharpness_N(self) -> Tensor:
        """1 / temperature of every position, one text after the other."""
        return torch.cat([text.scores_T.sharpness for text in self.texts])

    def rollouts(self) -> list[Rollout]:
        """Every text's greedy rollout; a walk without gradient, then one pass with it."""
        missing = [text for text in self.texts if text.rollout is None]
        if missing:
            prompts = [text.prompt_KD for text in missing]
            token_BT = greedy_tokens(self.lm, prompts, max(len(text.target_T) for text in missing))
            own = [row_T[: len(text.target_T)] for row_T, text in zip(token_BT, missing, strict=True)]
            states = self.lm.read(prompts, self.lm.embed_targets(own)).split([len(token_T) for token_T in own])
            for text, token_T, hidden_TD in zip(missing, own, states, strict=True):
                text.rollout = Rollout(token_T, hidden_TD)
        return [text.rollout for text in self.texts if text.rollout is not None]

    def samples(self) -> list[Samples]:
        """Every text's sampled rollouts, as long as its target, cut and scored at the end-of-text token."""
        for temperature in {text.knobs.sample_temperature for text in self.texts if text.samples is None}:
            self._sample([t for t in self.texts if t.samples is None and t.knobs.sample_temperature == temperature])
        return [text.samples for text in self.texts if text.samples is not None]

    def _sample(self, texts: list[TextView]) -> None:
        """Draw and score samples of texts that share a temperature; each sample is a row of the pass."""
        rows = [text for text in texts for _ in range(text.knobs.samples)]
        longest = max(len(text.target_T) for text in texts)
        uniform_BT = torch.cat([
            torch.nn.functional.pad(
                torch.rand(text.knobs.samples, len(text.target_T), generator=text.generator),
                (0, longest - len(text.target_T)),
            )
            for text in texts
        ]).to(self.lm.device)  # fmt: skip
        forced = [text.target_T[: text.num_given] if text.num_given < len(text.target_T) else text.target_T[:0]
                  for text in rows]  # fmt: skip
        prompts = [text.prompt_KD for text in rows]
        temperature = texts[0].knobs.sample_temperature
        token_BT = sample(self.lm, prompts, uniform_BT, temperature=temperature, forced=forced)
        drawn = [row_T[: len(text.target_T)] for row_T, text in zip(token_BT, rows, strict=True)]
        scores_N = self.lm.score_targets(prompts, drawn)
        log_ps = (-scores_N.nll).split([len(token_T) for token_T in drawn])
        ends = [cut(token_T.tolist(), self.lm.token_rule.end_id) for token_T in drawn]
        rewards = [
            REWARDS[text.knobs.reward](tokens, cut(text.target_T.tolist(), self.lm.token_rule.end_id))
            for text, tokens in zip(rows, ends, strict=True)
        ]
        totals = [
            log_p_T[len(given_F) : len(tokens)].sum()
            for log_p_T, given_F, tokens in zip(log_ps, forced, ends, strict=True)
        ]
        first = 0
        for text in texts:
            mine = slice(first, first + text.knobs.samples)
            reward_n = torch.tensor(rewards[mine], device=self.lm.device)
            token_nT = torch.stack([
                torch.cat([row_T[: len(tokens)], row_T[len(tokens) - 1].expand(len(row_T) - len(tokens))])
                for row_T, tokens in zip(drawn[mine], ends[mine], strict=True)
            ])  # fmt: skip
            text.samples = Samples(torch.stack(totals[mine]), reward_n, token_nT)
            first = mine.stop

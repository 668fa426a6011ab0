"""Terms over whole next-token distributions: unlikelihood, entropy, cross-entropy and edits on the model's own context.

Owns: what probability on other tokens than y[t] costs. Must not know: weights, schedules, optimisers.

Terms return one value per text, (B,), float32; probabilities are read at `loss.temperature`. T target tokens, U unlike
tokens among them, D hidden size.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from engine.losses.view import View


def unlikelihood(view: View) -> Float[Tensor, "B"]:
    """Mean over positions of `-sum over v in C_t of log(1 - p(v))`, C_t the earlier target tokens except y_t.

    Source: Welleck et al. 2020, 1908.04319, equation 2.
    """
    per_text = []
    for text in view.texts:
        unlike_U, is_candidate_TU = earlier_tokens(text.target_T)
        logits_TU = view.lm.head.token_logits(text.hidden_TD, unlike_U)
        log_p_TU = logits_TU * text.scores_T.sharpness[:, None] - text.scores_T.log_sum_exp[:, None]
        cost_TU = -log_one_minus(log_p_TU)
        per_text.append(torch.where(is_candidate_TU, cost_TU, 0.0).sum(1).mean())
    return torch.stack(per_text)


def sequence_unlikelihood(view: View) -> Float[Tensor, "B"]:
    """Mean over positions of `-log(1 - p(yhat_t))` where the greedy rollout's token ends a repeated n-gram.

    Source: Welleck et al. 2020, 1908.04319, section 5.2.
    """
    per_text = []
    for text, rollout in zip(view.texts, view.rollouts(), strict=True):
        scores_T = view.lm.head.score(rollout.hidden_TD, rollout.token_T, text.scores_T.sharpness)
        repeats_T = repeated_ngrams(rollout.token_T, text.knobs.ngram)
        per_text.append(torch.where(repeats_T, -log_one_minus(-scores_T.nll), 0.0).mean())
    return torch.stack(per_text)


def entropy(view: View) -> Float[Tensor, "B"]:
    """Mean entropy of the next-token distribution over the target's positions, nats."""
    entropy_N = view.lm.head.entropy(torch.cat([text.hidden_TD for text in view.texts]), view.sharpness_N)
    return torch.stack([entropy_T.mean() for entropy_T in entropy_N.split(view.lengths)])


def autoregressive(view: View) -> Float[Tensor, "B"]:
    """Mean cross-entropy of the target's tokens while the model reads its own greedy rollout, nats.

    The targets are right for their positions, not for that prefix; see `optimal_completion` for targets that are.
    Source: ours.
    """
    hidden_ND = torch.cat([rollout.hidden_TD for rollout in view.rollouts()])
    nll_N = view.lm.head.score(hidden_ND, torch.cat([text.target_T for text in view.texts]), view.sharpness_N).nll
    return torch.stack([nll_T.mean() for nll_T in nll_N.split(view.lengths)])


def optimal_completion(view: View) -> Float[Tensor, "B"]:
    """On the greedy rollout, cross-entropy to the uniform mixture of all edit-distance-optimal next tokens, nats.

    Source: Sabour et al. 2019, 1810.01398, the limit of temperature 0.
    """
    per_text = []
    for text, rollout in zip(view.texts, view.rollouts(), strict=True):
        unlike_U, is_optimal_TU = optimal_tokens(rollout.token_T, text.target_T)
        sharpness_T = text.scores_T.sharpness
        logits_TU = view.lm.head.token_logits(rollout.hidden_TD, unlike_U) * sharpness_T[:, None]
        log_sum_exp_T = view.lm.head.score(rollout.hidden_TD, rollout.token_T, sharpness_T).log_sum_exp
        num_optimal_T = is_optimal_TU.sum(1)
        nll_T = log_sum_exp_T - torch.where(is_optimal_TU, logits_TU, 0.0).sum(1) / num_optimal_T.clamp_min(1)
        # A prefix after which nothing is left to say has no optimal token, and costs nothing.
        per_text.append(torch.where(num_optimal_T > 0, nll_T, 0.0).mean())
    return torch.stack(per_text)


def earlier_tokens(target_T: Int[Tensor, "T"]) -> tuple[Int[Tensor, "U"], Bool[Tensor, "T U"]]:
    """Unlike tokens of a text, and which of them stand before each position without being its own token."""
    unlike_U, index_T = target_T.unique(return_inverse=True)
    is_here_TU = torch.nn.functional.one_hot(index_T, len(unlike_U)).bool()
    seen_TU = is_here_TU.cumsum(0) - is_here_TU.long() > 0
    return unlike_U, seen_TU & ~is_here_TU


def repeated_ngrams(token_T: Int[Tensor, "T"], n: int) -> Bool[Tensor, "T"]:
    """Where a token is the last of an n-gram that the sequence already held."""
    tokens, seen, repeats = token_T.tolist(), set(), []
    for t in range(len(tokens)):
        gram = tuple(tokens[max(0, t + 1 - n) : t + 1])
        repeats.append(len(gram) == n and gram in seen)
        seen.add(gram)
    return torch.tensor(repeats, device=token_T.device)


def optimal_tokens(own_T: Int[Tensor, "T"], target_T: Int[Tensor, "T"]) -> tuple[Int[Tensor, "U"], Bool[Tensor, "T U"]]:
    """Tokens that begin a continuation of least edit distance to the target, after each prefix `own[:t]`.

    With d(t, j) the edit distance between own[:t] and target[:j], those are target[j] for every j < T at which
    d(t, .) is smallest over 0 <= j <= T.
    """
    unlike_U, index_T = target_T.unique(return_inverse=True)
    is_here_TU = torch.nn.functional.one_hot(index_T, len(unlike_U)).bool()
    own, target = own_T.tolist(), target_T.tolist()
    distance = list(range(len(target) + 1))
    rows = []
    for token in own:
        nearest = min(distance)
        is_nearest_T = torch.tensor([d == nearest for d in distance[:-1]], device=target_T.device)
        rows.append((is_here_TU & is_nearest_T[:, None]).any(0))
        distance = _next_distances(distance, token, target)
    return unlike_U, torch.stack(rows)


def log_one_minus(log_p: Tensor) -> Tensor:
    """`log(1 - exp(log_p))` for log_p <= 0, kept finite, and with a bounded slope, where p rounds to 1."""
    return torch.log(-torch.expm1(log_p.clamp_max(-1e-6)))


def _next_distances(distance: list[int], token: int, target: list[int]) -> list[int]:
    """One more row of the Levenshtein table."""
    row = [distance[0] + 1]
    for j, wanted in enumerate(target):
        row.append(min(distance[j] + (token != wanted), distance[j + 1] + 1, row[j] + 1))
    return row

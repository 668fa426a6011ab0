"""Texts for the loss terms to look at, and slow ways to ask the model what it says.

Owns: what the tests of all terms share. B texts, K soft-prompt vectors, T target tokens, D hidden size, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from engine.decoding.trajectory import greedy_tokens
from engine.frozen_lm import FrozenLM
from engine.head import Scores
from engine.losses import Knobs, Positions, Term, TextView, View
from engine.recipe.sections import KnobsRecipe

NUM_VECTORS, LENGTHS, TEMPERATURES = (5, 1, 3, 2, 11), (11, 3, 1, 5, 2), (2.0, 1.0, 1.5, 4.0, 1.0)
B = len(LENGTHS)

KNOBS = KnobsRecipe(
    ngram=1, samples=7, sample_temperature=0.25, reward="accuracy", risk_sharpness=0.5, contrast_rho=1.0
)
"""Under these every term has something to say about a random model: repeats, unlike rewards, states too near."""


@dataclass(frozen=True)
class Text:
    """A text before any pass: what a `TextView` is made of."""

    prompt_KD: Tensor
    target_T: Tensor
    weight_T: Tensor
    judge: tuple[Tensor, Tensor]
    seed: int
    knobs: KnobsRecipe = KNOBS
    margin: float = 1.5
    p: float = 3.0
    gamma: float = 2.0
    temperature: float = 1.0
    baseline: float = 0.3
    num_given: int = 0

    @property
    def tokens(self) -> list[int]:
        return self.target_T.tolist()


def text_of(lm: FrozenLM, seed: int, num_vectors: int = 3, length: int = 5) -> Text:
    """A random prompt, and a target that begins as the model would go on and then holds tokens more than once."""
    generator = torch.Generator().manual_seed(seed)
    prompt_KD = torch.randn(num_vectors, lm.hidden_size, generator=generator) * lm.embed_rms
    own_T = greedy_tokens(lm, [prompt_KD], length)[0]
    other_T = torch.randint(2, 7, (length,), generator=generator)
    target_T = torch.where(torch.arange(length) < (length + 1) // 2, own_T, other_T)
    weight_T = 1 + torch.randint(3, (length,), generator=generator).float()
    judge = torch.randn(lm.hidden_size, generator=generator), torch.randn((), generator=generator)
    return Text(prompt_KD, target_T, weight_T, judge, seed)


def texts_of(lm: FrozenLM) -> list[Text]:
    """B texts of unlike K, T and temperatures, one of them a single vector and one a single token."""
    # Seed 0 drew the tiny models: its prompts would be rows of their embedding.
    shapes = zip(range(1, B + 1), NUM_VECTORS, LENGTHS, strict=True)
    return [
        replace(text_of(lm, *shape), temperature=temperature)
        for shape, temperature in zip(shapes, TEMPERATURES, strict=True)
    ]


def view_of(lm: FrozenLM, *texts: Text) -> View:
    """One teacher-forced pass; prompts and judges are leaves that take gradients."""
    prompts = [text.prompt_KD.clone().requires_grad_() for text in texts]
    targets = [text.target_T for text in texts]
    hidden_ND = lm.read(prompts, lm.embed_targets(targets))
    lengths = [len(target_T) for target_T in targets]
    sharpness_N = torch.cat([torch.full((len(text.target_T),), 1 / text.temperature) for text in texts])
    scores_N = lm.head.score(hidden_ND, torch.cat(targets), sharpness_N)
    columns = [Scores(*column) for column in zip(*(column.split(lengths) for column in scores_N), strict=True)]
    views = [
        TextView(
            prompt_KD, text.target_T, column, hidden_TD, text.num_given, text.knobs,
            torch.Generator().manual_seed(text.seed), baseline=text.baseline,
            judge=(text.judge[0].clone().requires_grad_(), text.judge[1].clone().requires_grad_()),
        )
        for text, prompt_KD, hidden_TD, column in zip(texts, prompts, hidden_ND.split(lengths), columns, strict=True)
    ]  # fmt: skip
    return View(lm, positions_of(texts, columns), lambda: views)


def positions_of(texts: Sequence[Text], columns: list[Scores]) -> Positions:
    """All positions side by side."""
    scores_BT = Scores(*(pad_sequence(list(column), batch_first=True) for column in zip(*columns, strict=True)))
    weights = [text.weight_T for text in texts]
    mask_BT = pad_sequence([torch.ones_like(weight_T, dtype=torch.bool) for weight_T in weights], batch_first=True)
    margin_B, p_B, gamma_B = torch.tensor([[text.margin, text.p, text.gamma] for text in texts]).unbind(1)
    knobs = Knobs(margin_B, p_B, gamma_B, pad_sequence(weights, batch_first=True), scores_BT.margin)
    return Positions(scores_BT, mask_BT, knobs)


def value_and_gradients(term: Term, view: View) -> tuple[Tensor, list[Tensor]]:
    """What a term says about every text, and its gradient by every prompt."""
    loss_B = term(view)
    return loss_B.detach(), list(torch.autograd.grad(loss_B.sum(), [text.prompt_KD for text in view.texts]))


SlowTerm = Callable[[FrozenLM, Text, Tensor], Tensor]
"""`(lm, text, prompt_KD) -> value`, float64, straight from a formula."""


def assert_equals_slow(term: Term, slow: SlowTerm, lm: FrozenLM, texts: list[Text], *, slack: float = 1.0) -> None:
    """A term and its gradient by the prompts against a slow loop, a text at a time.

    Args:
        slack: factor on all tolerances, which are those of float32.
    """
    loss_B, gradients = value_and_gradients(term, view_of(lm, *texts))
    assert (loss_B != 0).any() and any((grad_KD != 0).any() for grad_KD in gradients), "nothing to compare"
    for text, loss, grad_KD in zip(texts, loss_B, gradients, strict=True):
        prompt_KD = text.prompt_KD.double().requires_grad_()
        value = slow(lm, text, prompt_KD)
        (slow_grad_KD,) = torch.autograd.grad(value + 0 * prompt_KD.sum(), prompt_KD)
        torch.testing.assert_close(loss, value.float(), rtol=1e-5 * slack, atol=1e-6 * slack)
        atol = 1e-4 * slack * float(slow_grad_KD.abs().max())
        torch.testing.assert_close(grad_KD, slow_grad_KD.float(), rtol=1e-4 * slack, atol=atol)


def slow_states(lm: FrozenLM, prompt_KD: Tensor, tokens: list[int]) -> Tensor:
    """(T, D): states that predict `tokens` when the model reads them after the prompt, from a pass of its own."""
    read_SD = torch.cat([prompt_KD, lm.embed(torch.tensor(tokens))])
    return lm.model.base_model(inputs_embeds=read_SD[None]).last_hidden_state[0, len(prompt_KD) - 1 : -1]


def slow_log_p(lm: FrozenLM, prompt_KD: Tensor, tokens: list[int], temperature: float = 1.0) -> Tensor:
    """(T, V): log-probabilities at the places of `tokens`, from the model's own logits."""
    read_SD = torch.cat([prompt_KD, lm.embed(torch.tensor(tokens))])
    return (lm.model(inputs_embeds=read_SD[None]).logits[0, len(prompt_KD) - 1 : -1] / temperature).log_softmax(-1)


def slow_greedy(lm: FrozenLM, prompt_KD: Tensor, num_tokens: int) -> list[int]:
    """The argmax continuation, the whole context read again for every token."""
    tokens: list[int] = []
    for _ in range(num_tokens):
        tokens.append(int(slow_log_p(lm, prompt_KD, [*tokens, 0])[-1].argmax()))
    return tokens

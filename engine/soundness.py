"""The load probe: does this model read a text the same in every way in which this project has it read?

Owns: what is compared, how close is close enough. Must not know: where a model comes from, losses, Ray.

A prompt is found in batches padded on the right, judged token by token over a cache, and stored as vectors of its own:
all of that is only worth something for a model whose logits do not depend on it. Some thirteen passes over a few
positions; no text is needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from engine.decoding.reader import Reader
from engine.loading import OUT_OF_MEMORY
from engine.model_source import ModelError
from engine.packing import longest_packed

LENGTHS = ((5, 4), (2, 3), (7, 4))
"""K and T of the probe's texts: unlike, the shortest in the middle, all within the smallest context there is."""

TOLERANCE = {torch.float64: 2e-3, torch.float32: 2e-3, torch.float16: 0.1, torch.bfloat16: 0.25}
"""Largest difference of two readings, as a share of the spread of a position's logits (rms over standard deviation).

float32: rounding alone is 1e-6 to 5e-6 on pocket, SmolLM2 and random mixtures of experts (measured 2026-11-25), the
smallest unsoundness known 3e-3.
The 16-bit types round at 2^-11 and 2^-8 a product and add that up over the layers, some 3e-3 and 3e-2; a router that
flips between two experts moves a single position by more, so the median over a text's positions is taken there.
"""

CHANGES = {
    torch.float64: (0.02, 0.005, 0.1), torch.float32: (0.02, 0.005, 0.1),
    torch.float16: (1.0, 3.0, 0.3), torch.bfloat16: (1.0, 3.0, 0.3),
}  # fmt: skip
"""Changes of a text's likelihood, nats, over which its gradient is held against a difference: above the dtype's
rounding, below the model's curvature. Further ones are tried where the first says no. Measured 2026-11-25 on pocket,
SmolLM2 and a random mixture of experts: 0.001 apart in float32 at 0.02 nats."""

GRADIENT_TOLERANCE = {torch.float64: 0.1, torch.float32: 0.1, torch.float16: 0.5, torch.bfloat16: 0.5}
"""Share by which the two may differ, the median over texts and directions. Along random directions a part that lets
no gradient through is off by the share of the gradient that is its own; rounding by some 1 % (float32). In 16 bits a
random direction drowns in rounding: the gradient's own is followed, which only tells when nearly all of it is wrong."""

NOISE = 0.1
"""Noise on the probe's vectors, as a share of the embeddings' size. Assumption: enough to be no token."""

NUM_DIRECTIONS = 3
"""Random directions for each text: with three texts, nine comparisons, of which a router may spoil four."""

LONGEST_STEP = 0.3
"""As a share of the prompt's own size: a gradient that is nearly nothing is not followed to infinity. Assumption."""


class Probe:
    """Random soft prompts and tokens for a model, and what it says about them.

    Args:
        lm: the frozen model, complete but for this check.
    """

    def __init__(self, lm: Any):
        generator = torch.Generator().manual_seed(0)
        self.lm = lm
        self.is_exact = lm.dtype in (torch.float32, torch.float64)
        self.prompts = [self._vectors(k, generator) for k, _ in LENGTHS]
        self.targets = [
            torch.randint(lm.token_rule.num_embeddings, (t,), generator=generator).to(lm.device) for _, t in LENGTHS
        ]
        self.contexts = lm.embed_targets(self.targets)

    @torch.no_grad()
    def _vectors(self, num_vectors: int, generator: torch.Generator) -> Tensor:
        """Random tokens' embeddings with noise on top: pure noise is where real models curve most, and round worst."""
        ids_K = torch.randint(self.lm.token_rule.num_embeddings, (num_vectors,), generator=generator).to(self.lm.device)
        noise_KD = torch.randn(num_vectors, self.lm.hidden_size, generator=generator).to(self.lm.device)
        return self.lm.embed(ids_K).float() + NOISE * self.lm.embed_rms * noise_KD

    def check(self) -> None:
        """Every reading against the one that training uses.

        Raises:
            ModelError: what differs, by how much, and what it means.
        """
        with torch.no_grad():
            self._check_embedding_and_head()
            with _told("it reads the embeddings of its own tokens and no other vectors"):
                together = self._together()
            self._compare("right padding changes what it says", together, self._alone())
            self._check_across_the_original_context()
            self.lm.caches = self._caches_soundly(together)
            if not self.lm.caches:
                self._compare("token by token it says something else", together, self._token_by_token())
        self._check_gradient()

    def packs_up_to(self) -> int:
        """Positions of the longest text that may be packed with others: 0 if any part of the model looks across."""
        lm = self.lm
        try:
            lm.packs_up_to = longest_packed(lm.body.config, lm.token_rule.context)
            is_tried = lm.lay_out(*zip(*LENGTHS, strict=True)).is_packed
            return lm.packs_up_to if is_tried and self._is_apart_when_packed() else 0
        except OUT_OF_MEMORY:
            raise
        except Exception:  # whatever a family raises whose attention is not handed on
            return 0
        finally:
            lm.packs_up_to = 0

    def _is_apart_when_packed(self) -> bool:
        """Packed texts say what they say alone, and no state depends on another text: its gradient is exactly 0."""
        lengths = [t for _, t in LENGTHS]
        with torch.no_grad():
            said = self.lm.head.logits(self.lm.read(self.prompts, self.contexts)).split(lengths)
            if any(self._difference(a, b) > TOLERANCE[self.lm.dtype] for a, b in zip(said, self._alone(), strict=True)):
                return False
        with torch.enable_grad():
            prompts = [prompt_KD.clone().requires_grad_() for prompt_KD in self.prompts]
            states = self.lm.read(prompts, self.contexts).split(lengths)
            for b, hidden_TD in enumerate(states):
                grads = torch.autograd.grad(hidden_TD.float().sum(), prompts, retain_graph=True)
                if any(bool(grad_KD.any()) for other, grad_KD in enumerate(grads) if other != b):
                    return False
        return True

    @torch.no_grad()
    def largest_difference(self) -> float:
        """Logits between what a text says in a batch and alone or token by token, the largest of all."""
        together = self._together()
        pairs = [*zip(together, self._alone(), strict=True), *zip(together, self._token_by_token(), strict=True)]
        return max((ours_TV - theirs_TV).abs().max().item() for ours_TV, theirs_TV in pairs)

    def _check_embedding_and_head(self) -> None:
        """From token ids through the model's own head, against embeddings through ours."""
        lm, ids_1T = self.lm, torch.cat(self.targets)[None]
        theirs = lm.model(input_ids=ids_1T, use_cache=False).logits[0].float()
        with _told("it does not read embeddings in place of tokens"):
            ours = lm.head.logits(lm.hidden(lm.embed(ids_1T))[0])
        if ours.shape != theirs.shape:
            raise ModelError(
                f"its output rule is unknown here (logits of {tuple(theirs.shape)}, not {tuple(ours.shape)})"
            )
        self._compare("its embedding or output rule is unknown here", [ours], [theirs])

    def _together(self) -> list[Tensor]:
        """Logits (T, V) of each text, all in one batch padded on the right: how prompts are found."""
        hidden_ND = self.lm.read(self.prompts, self.contexts)
        return list(self.lm.head.logits(hidden_ND).split([t for _, t in LENGTHS]))

    def _alone(self) -> list[Tensor]:
        pairs = zip(self.prompts, self.contexts, strict=True)
        return [self.lm.head.logits(self.lm.read([prompt], [context])) for prompt, context in pairs]

    def _token_by_token(self) -> list[Tensor]:
        """Logits as the product's own decoding sees them."""
        reader, longest = Reader(self.lm, self.prompts), max(t for _, t in LENGTHS)
        said = [self.lm.head.logits(reader.hidden_RD)]
        for t in range(longest - 1):
            read = torch.stack([context_TD[min(t, len(context_TD) - 1)] for context_TD in self.contexts])
            said.append(self.lm.head.logits(reader.read(read)))
        return [torch.stack(said, dim=1)[row, :t] for row, (_, t) in enumerate(LENGTHS)]

    def _caches_soundly(self, together: list[Tensor]) -> bool:
        """Whether the cache reads as training does. Where it does not, or there is none, reading goes without."""
        try:
            said = self._token_by_token()
        except OUT_OF_MEMORY:
            raise
        except Exception:  # whatever a cache of another kind raises when it is used as one of attention
            return False
        return all(self._difference(a, b) <= TOLERANCE[self.lm.dtype] for a, b in zip(together, said, strict=True))

    def _check_across_the_original_context(self) -> None:
        """A text within the original context must not change when a longer one is beside it."""
        config = self.lm.model.config.get_text_config()
        rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
        edge = getattr(config, "original_max_position_embeddings", None) or rope.get("original_max_position_embeddings")
        read_SD = torch.cat([self.prompts[0], self.contexts[0]])
        half = len(read_SD) // 2
        if edge is None or not half <= edge <= self.lm.token_rule.context - half:
            return
        within, beyond = (self._read_at(read_SD[:n], edge - half) for n in (half, len(read_SD)))
        self._compare("a longer text beside it changes what it says", [within], [beyond[:half]])

    def _read_at(self, read_SD: Tensor, first: int) -> Tensor:
        """Logits of rows that stand at positions `first` and on."""
        positions = torch.arange(first, first + len(read_SD), device=read_SD.device)[None]
        output = self.lm.body(inputs_embeds=read_SD[None].to(self.lm.dtype), position_ids=positions, use_cache=False)
        return self.lm.head.logits(output.last_hidden_state[0])

    def _check_gradient(self) -> None:
        """The likelihood's gradient against what small steps do to it, all of them in one batch."""
        prompts = [prompt_KD.clone().requires_grad_() for prompt_KD in self.prompts]
        with _told("no gradient passes it"), torch.enable_grad():
            grads = torch.autograd.grad(self._nll(prompts, self.targets).sum(), prompts)
        sizes = [grad_KD.norm().item() for grad_KD in grads]
        if not all(0 < size < float("inf") for size in sizes):
            raise ModelError(f"no gradient passes it (sizes {sizes}); give the model unquantised, or in float32")
        errors = []
        for change in CHANGES[self.lm.dtype]:
            errors.append(self._gradient_error(grads, change))
            if errors[-1] <= GRADIENT_TOLERANCE[self.lm.dtype]:
                return
        raise ModelError(
            f"its gradient is not that of what it says (off by {min(errors):.0%} along the directions tried): some "
            "part, a quantised weight perhaps, lets none through; give the model unquantised"
        )

    @torch.no_grad()
    def _gradient_error(self, grads: tuple[Tensor, ...], change: float) -> float:
        """Median difference of slope and gradient, as a share of the median slope, over steps that change so much."""
        generator = torch.Generator().manual_seed(1)
        prompts, targets, steps, slopes = [], [], [], []
        for prompt_KD, target_T, grad_KD in zip(self.prompts, self.targets, grads, strict=True):
            for _ in range(NUM_DIRECTIONS):
                random_KD = torch.randn(grad_KD.shape, generator=generator).to(grad_KD.device)
                along_KD = random_KD if self.is_exact else grad_KD
                unit_KD = along_KD / along_KD.norm()
                usual = grad_KD.norm() / (grad_KD.numel() ** 0.5 if self.is_exact else 1.0)
                step = torch.minimum(change / usual, LONGEST_STEP * prompt_KD.norm())
                prompts += [prompt_KD + step * unit_KD, prompt_KD - step * unit_KD]
                targets += [target_T, target_T]
                steps.append(2 * step)
                slopes.append((grad_KD * unit_KD).sum())
        up_N, down_N = self._nll(prompts, targets).view(-1, 2).unbind(1)
        found_N = (up_N - down_N) / torch.stack(steps)
        return ((torch.stack(slopes) - found_N).abs().median() / found_N.abs().median()).nan_to_num(float("inf")).item()

    def _nll(self, prompts: list[Tensor], targets: list[Tensor]) -> Tensor:
        """Nats of each text."""
        nll_N = self.lm.score_targets(prompts, targets).nll
        return torch.stack([nll_T.sum() for nll_T in nll_N.split([len(target_T) for target_T in targets])])

    def _difference(self, ours_NV: Tensor, theirs_NV: Tensor) -> float:
        """How far two readings of a text lie apart, as a share of the spread of their logits."""
        apart_N = (ours_NV - theirs_NV).square().mean(-1).sqrt() / theirs_NV.std(-1).clamp_min(1e-30)
        return (apart_N.max() if self.is_exact else apart_N.median()).nan_to_num(float("inf")).item()

    def _compare(self, told: str, ours: list[Tensor], theirs: list[Tensor]) -> None:
        share = max(self._difference(a, b) for a, b in zip(ours, theirs, strict=True))
        if share > TOLERANCE[self.lm.dtype]:
            logits = max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))
            raise ModelError(
                f"{type(self.lm.model).__name__}: {told} (by up to {logits:.3g} logits, {share:.2g} of their spread): "
                "what is found for it would not be what it says; give a model of another architecture"
            )


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (*OUT_OF_MEMORY, ModelError):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{what} ({reason}); give a model of another architecture") from error

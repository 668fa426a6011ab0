"""A frozen causal language model: what it reads, what it says, and proof that it did not change.

Owns: loading, the embedding rule, the one alignment point. Must not know: losses, slots, Ray.

B rows, K soft-prompt vectors, T target tokens, S = K + T - 1 read positions, D hidden size, V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from engine.context_length import context_of
from engine.fingerprint import fingerprint, kept_fingerprint
from engine.head import Head, Scores
from engine.layout import Layout
from engine.loading import from_pretrained, load_model, load_skeleton, told_in_one_line
from engine.model_source import ModelError, ModelSource
from engine.packing import Row, packed
from engine.reach import Reach, longest_state
from engine.recomputation import recomputed
from engine.served_length import pin_rope
from engine.spelling import Speller

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class TokenRule:
    """The part of a model a text meets first: tokenizer, context and end-of-text id.

    Attributes:
        context: positions the model can read, soft prompt and target together.
        end_id: token that ends a text, or None where the tokenizer has none.
        num_embeddings: rows of the embedding and of the output: the model knows token ids below it, the tokenizer may
            know more.
    """

    tokenizer: PreTrainedTokenizerBase
    context: int
    end_id: int | None
    num_embeddings: int

    @cached_property
    def speller(self) -> Speller:
        """Ways of spelling a text in the tokenizer's tokens; kept, because making them costs."""
        return Speller(self.tokenizer)

    @cached_property
    def max_characters(self) -> int:
        """No text of more fits into the context; the one beside each token is for the space that some decoders add."""
        return self.context * (1 + max(map(len, self.tokenizer.get_vocab())))

    def __post_init__(self) -> None:
        if self.end_id is not None and self.end_id >= self.num_embeddings:
            raise ModelError(
                f"the tokenizer ends a text with token {self.end_id}, the model's embedding has {self.num_embeddings} "
                "rows: it is another model's tokenizer, or the token was added to it without a row in the embedding; "
                "copy the model's own tokenizer files into its folder"
            )

    @classmethod
    def load(cls, source: ModelSource) -> "TokenRule":
        """Tokenizer and configuration only, no weights.

        Raises:
            ModelError: they cannot be read, or do not belong together.
        """
        skeleton = load_skeleton(source)
        tokenizer = from_pretrained(AutoTokenizer, source)
        with told_in_one_line(source):
            return cls.of(tokenizer, skeleton)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, model: Any) -> "TokenRule":
        """The rule of a model or of its skeleton.

        Raises:
            ModelError: the tokenizer is another model's.
        """
        end_id: Any = tokenizer.eos_token_id
        num_embeddings = _num_embeddings(model)
        own = set(tokenizer.get_vocab().values()) - set(tokenizer.added_tokens_decoder)
        if max(own, default=0) >= num_embeddings:
            raise ModelError(
                f"the tokenizer has tokens up to {max(own)}, the model's embedding has {num_embeddings} rows: it is "
                "another model's tokenizer; copy the model's own tokenizer files into its folder"
            )
        return cls(tokenizer, context_of(tokenizer, model.config.get_text_config()), end_id, num_embeddings)


class FrozenLM:
    """A causal language model none of whose parameters takes a gradient.

    Args:
        model: a transformers causal LM in evaluation mode, on its device, in its dtype.
        tokenizer: its tokenizer.
        known_as: its fingerprint, where it is known; before a move to a device is when it is found fastest.

    Attributes:
        body: the model without its head: embeddings to last hidden states, final norm included.
        packs_up_to: positions of the longest text that may share a row with others, see `engine.packing`; 0 is none.
        keeps_up_to: positions, padding included, of the largest pass whose layers keep what backward needs; those of a
            larger one compute it again, see `engine.recomputation`.
        caches: whether a cache reads as training does; `engine.soundness` finds out, and `Reader` goes without.

    Raises:
        ModelError: the tokenizer is another model's, or the model does not read the same in every way.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, *, known_as: str | None = None):
        from engine.soundness import Probe  # it decodes, which builds on this module

        self.model = model.eval().requires_grad_(False)
        # Llama 4 has its body under another name than transformers' rule says.
        self.body = model.base_model if model.base_model is not model else model.model
        self.caches = True
        self.packs_up_to = 0
        self.keeps_up_to = math.inf
        self.is_compiled = False
        self.token_rule = TokenRule.of(tokenizer, model)
        embedding = model.get_input_embeddings()
        self.embedding = embedding
        self.device: torch.device = embedding.weight.device
        self.dtype: torch.dtype = embedding.weight.dtype
        self.vocab_size, self.hidden_size = embedding.weight.shape
        self.embed_scale = _embed_scale(embedding)
        self.embed_rms = embedding.weight.float().square().mean().sqrt().item() * self.embed_scale
        self.head = _head_of(model)
        self.fingerprint = known_as or fingerprint(model)
        probe = Probe(self)
        probe.check()
        self.packs_up_to = probe.packs_up_to()

    @classmethod
    def load(
        cls, source: ModelSource, *, device: str = "cpu", dtype: str = "float32", served_length: int | None = None
    ) -> "FrozenLM":
        """Load from a folder or the hub: safetensors only, no remote code, no pickle.

        Args:
            served_length: positions of the longest text that any engine will read in this run, vLLM's max_model_len;
                None is the model's whole context. Models with long-rope read with other frequencies by it.
        Raises:
            ModelError: the model cannot be loaded, or is one that cannot be inverted.
        """
        if dtype not in DTYPES:
            raise ModelError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
        model = load_model(source, DTYPES[dtype])
        tokenizer = from_pretrained(AutoTokenizer, source)
        with told_in_one_line(source):
            known_as = kept_fingerprint(model, Path(source.path).glob("*.safetensors"))
            pin_rope(model, served_length)
            return cls(model.to(device), tokenizer, known_as=known_as)

    def compile_layers(self) -> None:
        """Compile the decoder layers for passes of any size; what torch cannot compile is left as it is.

        The first pass takes some ten seconds longer. Measured on an H200 with 8 B parameters: 1.3 times the positions a
        second and 0.7 times the memory (docs/performance.md). TORCHDYNAMO_DISABLE=1 turns it off.
        """
        torch._dynamo.config.suppress_errors = True
        stacks = [module for module in self.body.modules() if isinstance(module, torch.nn.ModuleList)]
        for layer in max(stacks, key=len, default=[]):
            layer.compile(dynamic=True)
        self.is_compiled = True

    def uncompiled(self) -> AbstractContextManager[Any]:
        """Within it the layers run as they are: with a cache each would be compiled anew, for a few short passes."""
        return torch.compiler.set_stance("force_eager") if self.is_compiled else nullcontext()

    @cached_property
    def reach(self) -> Reach:
        """The largest margins that tokens can have."""
        return Reach(self.head, longest_state(self))

    def embed(self, token_ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape D"]:
        """Embeddings as the first layer's input rule expects them, scaling included (Gemma).

        transformers >= 5 scales inside the embedding module and vLLM scales on lookup alone, so a soft prompt in
        these units means the same to both. `engine.soundness` refuses a model for which that does not hold.
        """
        return self.embedding(token_ids)

    def hidden(self, read_BSD: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Last hidden states, final norm included. Rows shorter than S are padded on the right.

        Causal attention never lets a position see what follows it, so right padding needs no mask.
        """
        return self.body(inputs_embeds=read_BSD, use_cache=False).last_hidden_state

    def read(self, prompts: list[Tensor], contexts: list[Tensor]) -> Float[Tensor, "N D"]:
        """Hidden states that predict the tokens of B texts, aligned by `engine.layout`.

        Args:
            prompts: B tensors (K_b, D), float32; cast to the model's dtype here.
            contexts: B tensors (T_b, D), T_b >= 1: what stands at the place of each target token. Its embedding is
                teacher forcing.
        Returns:
            (sum of T_b, D): row n predicts the n-th target token of all texts one after the other.
        """
        layout = self.lay_out([len(prompt_KD) for prompt_KD in prompts], [len(c_TD) for c_TD in contexts])
        return self.read_rows(torch.cat(prompts), torch.cat([c_TD.to(self.dtype) for c_TD in contexts]), layout)

    def lay_out(self, num_vectors: Sequence[int], num_tokens: Sequence[int]) -> Layout:
        """Where texts of these sizes are read: packed if the model allows it, else padded side by side."""
        longest = max(k + t - 1 for k, t in zip(num_vectors, num_tokens, strict=True))
        return Layout(tuple(num_vectors), tuple(num_tokens), longest <= self.packs_up_to, self.device)

    def read_rows(
        self, prompts_RD: Float[Tensor, "R D"], contexts_ND: Float[Tensor, "N D"], layout: Layout
    ) -> Float[Tensor, "N D"]:
        """`read`, of texts whose vectors and contexts lie one after the other."""
        rows, positions = layout.shape
        given = torch.cat([prompts_RD.to(self.dtype), contexts_ND.to(self.dtype)])
        read_PD = given.new_zeros(rows * positions + 1, self.hidden_size).index_copy(0, layout.at, given)
        read_BSD = read_PD[:-1].view(rows, positions, self.hidden_size)
        with self._recomputed(layout) if layout.num_positions > self.keeps_up_to else nullcontext():
            hidden_BSD = self._hidden_packed(read_BSD, layout) if layout.is_packed else self.hidden(read_BSD)
        return hidden_BSD.flatten(0, 1).index_select(0, layout.predicting)

    def _hidden_packed(self, read_1PD: Float[Tensor, "1 P D"], layout: Layout) -> Float[Tensor, "1 P D"]:
        with packed(self.body.config):
            return self.body(
                inputs_embeds=read_1PD, position_ids=layout.position_ids, use_cache=False, row=Row.of(layout)
            ).last_hidden_state

    @contextmanager
    def _recomputed(self, layout: Layout) -> Iterator[None]:
        """Uncompiled: such a pass is rare, and a compiled layer would be compiled anew for it."""
        inside = partial(packed, self.body.config) if layout.is_packed else nullcontext
        with self.uncompiled(), recomputed(self.body, inside):
            yield

    def embed_targets(self, targets: list[Tensor]) -> list[Tensor]:
        """Embeddings of B texts' tokens, (T_b, D) each: what teacher forcing reads."""
        return list(self.embed(torch.cat(targets)).split([len(target_T) for target_T in targets]))

    def score_targets(self, prompts: list[Tensor], targets: list[Tensor]) -> Scores:
        """Teacher-forced scores of B texts, aligned by `read`.

        Args:
            prompts: B tensors (K_b, D), float32.
            targets: B tensors (T_b,), token ids, T_b >= 1.
        Returns:
            Scores of all texts' positions one after the other, (sum of T_b,).
        """
        return self.head.score(self.read(prompts, self.embed_targets(targets)), torch.cat(targets))

    def mix(self, weight_BV: Float[Tensor, "B V"]) -> Float[Tensor, "B D"]:
        """Weighted sums of token embeddings as the first layer expects them, float32."""
        return (weight_BV.to(self.dtype) @ self.embedding.weight).float() * self.embed_scale


def _num_embeddings(model: Any) -> int:
    """Token ids below this can be both read and said; the two tables differ in a few models (Mllama)."""
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(len(table.weight) for table in tables if table is not None)


@torch.no_grad()
def _embed_scale(embedding: Any) -> float:
    """Factor the embedding module puts on its own rows: sqrt(D) for Gemma, 1 for most."""
    rows = torch.arange(min(64, len(embedding.weight)), device=embedding.weight.device)
    return (embedding(rows).float().norm() / embedding.weight[rows].float().norm()).item()


def _head_of(model: Any) -> Head:
    config = model.config.get_text_config()
    output = model.get_output_embeddings()
    if output is None:
        raise ModelError(f"{type(model).__name__} has no output embedding; give a causal language model")
    scale = getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None) or 1.0
    scale /= getattr(config, "logits_scaling", None) or 1.0
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(output.weight, getattr(output, "bias", None), scale=scale, softcap=softcap)

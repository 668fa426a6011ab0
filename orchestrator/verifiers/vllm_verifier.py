"""Verification on vLLM: free decoding from prompt embeddings, greedy or with beams.

Owns: the vLLM engine and its settings. Must not know: the solver. vLLM is imported by the constructor alone.
"""

import logging
import os
import warnings
from typing import Any

import torch
from transformers import AutoConfig

from orchestrator.console.errors import UserError
from orchestrator.verifiers.cache import USUAL_CACHE, Cache, rounded
from orchestrator.verifiers.contract import Candidate, Mode, Said, Verifier
from orchestrator.verifiers.vllm_beam import Hypotheses, LikelyTokens, search_beams

MAX_BEAMS = 32
"""Widest beam search: twice as many log-probabilities are asked of vLLM at every step."""


class VllmVerifier(Verifier):
    """A resident vLLM engine that decodes candidates.

    Args:
        model: local folder or hub name, as vLLM takes it.
        revision: hub revision or None.
        dtype: `float32`, `bfloat16` or `float16`.
        context: longest soft prompt and target together, in positions.
        memory_frac: share of its card that must be free at the start.
        cache: the key-value cache; its size in bytes makes vLLM measure nothing, on GPUs and CPUs alike.
        pass_positions: of one of vLLM's passes, at most; None is vLLM's choice.
    Raises:
        UserError: vLLM is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None,
        dtype: str,
        context: int,
        memory_frac: float = 0.9,
        cache: Cache = USUAL_CACHE,
        pass_positions: int | None = None,
    ):
        vllm = import_vllm()
        self._sampling: Any = vllm.SamplingParams
        self._llm: Any = vllm.LLM(
            model,
            revision=revision,
            dtype=dtype,
            max_model_len=context,
            enable_prompt_embeds=True,
            enable_prefix_caching=False,
            enforce_eager=True,
            gpu_memory_utilization=memory_frac,
            kv_cache_memory_bytes=cache.num_bytes,
            max_num_seqs=cache.num_texts,
            max_num_batched_tokens=pass_positions,
            trust_remote_code=False,
            generation_config="vllm",  # nothing of the model's own settings for sampling
            disable_log_stats=True,
            max_logprobs=2 * MAX_BEAMS,
            hf_overrides=_narrow_embedding(model, revision),
            use_tqdm_on_load=False,
        )
        self.engine = f"vllm {vllm.__version__}"
        self.engine_dtype = dtype
        self.context = context
        self._cache = cache
        self.hidden_size = self._llm.model_config.get_inputs_embeds_size()
        self._dtype = self._llm.model_config.dtype
        self.end_id = self._llm.get_tokenizer().eos_token_id
        self.vocab_size = self._llm.model_config.get_vocab_size()

    def _decode(self, candidates: list[Candidate], mode: Mode) -> list[Said]:
        decode = self._search if mode.beams > 1 else self._decode_greedily
        return [said for batch in self._batches(candidates, mode.batch_size) for said in decode(batch, mode)]

    def _batches(self, candidates: list[Candidate], size: int | None) -> list[list[Candidate]]:
        """As many at once as the cache holds to their ends: vLLM would stop one for another and compute it anew."""
        batches: list[list[Candidate]] = [[]]
        taken = 0
        for candidate in candidates:
            positions = rounded(len(candidate.prompt_KD) + self._limit(candidate))
            if batches[-1] and (taken + positions > self._cache.positions or len(batches[-1]) == size):
                batches.append([])
                taken = 0
            batches[-1].append(candidate)
            taken += positions
        return batches

    def _decode_greedily(self, candidates: list[Candidate], mode: Mode) -> list[Said]:
        prompts = [{"prompt_embeds": self._tensor(c)} for c in candidates]
        params = [self._params(self._limit(c), 2 if mode.margins else None) for c in candidates]
        texts = [output.outputs[0] for output in self._llm.generate(prompts, params, use_tqdm=False)]
        if not mode.margins:
            return [Said(list(text.token_ids)) for text in texts]
        return [Said(list(text.token_ids), [_margin(step) for step in text.logprobs]) for text in texts]

    def _score(self, candidates: list[Candidate]) -> list[list[float]]:
        params = self._sampling(temperature=0.0, max_tokens=1, prompt_logprobs=2, ignore_eos=True, detokenize=False)
        margins: list[list[float]] = []
        for batch in self._batches(candidates, None):
            asked = [_mixed(self._tensor(c), c.token_ids) for c in batch]
            for candidate, output in zip(batch, self._llm.generate(asked, params, use_tqdm=False), strict=True):
                steps = output.prompt_logprobs[len(candidate.prompt_KD) :]
                margins.append([_lead(step, token) for step, token in zip(steps, candidate.token_ids, strict=True)])
        return margins

    def _search(self, candidates: list[Candidate], mode: Mode) -> list[Said]:
        """Our own beam search: vLLM refuses beams for prompts that are embeddings."""
        if mode.beams > MAX_BEAMS:
            raise UserError(f"--beams {mode.beams}: must be at most {MAX_BEAMS} on vLLM")
        prompts = [self._tensor(c) for c in candidates]

        def likely(hypotheses: Hypotheses, num_next: int) -> LikelyTokens:
            asked = [_mixed(prompts[text], token_ids) for text, token_ids in hypotheses]
            outputs = self._llm.generate(asked, self._params(1, num_next), use_tqdm=False)
            steps = [output.outputs[0].logprobs[0] for output in outputs]
            ranked = [sorted(step.items(), key=lambda entry: entry[1].rank)[:num_next] for step in steps]
            return [[(token, entry.logprob) for token, entry in step] for step in ranked]

        texts = search_beams(likely, [self._limit(c) for c in candidates], width=mode.beams, end_id=self.end_id)
        return [Said(text.token_ids) for text in texts]

    def _tensor(self, candidate: Candidate) -> torch.Tensor:
        return torch.from_numpy(candidate.prompt_KD.copy()).to(self._dtype)

    def _params(self, max_tokens: int, logprobs: int | None) -> Any:
        """Greedy. vLLM stops at every end token that generation_config.json lists, unless it ignores them all."""
        ends = [] if self.end_id is None else [self.end_id]
        return self._sampling(
            temperature=0.0, max_tokens=max_tokens, logprobs=logprobs, ignore_eos=True, stop_token_ids=ends,
            detokenize=False,
        )  # fmt: skip


def _mixed(prompt_KD: torch.Tensor, token_ids: tuple[int, ...]) -> dict[str, Any]:
    """A soft prompt followed by plain tokens; the zero rows and zero ids are places that the other one fills."""
    num_vectors, num_tokens = len(prompt_KD), len(token_ids)
    return {
        "prompt_embeds": torch.nn.functional.pad(prompt_KD, (0, 0, 0, num_tokens)),
        "prompt_token_ids": [0] * num_vectors + list(token_ids),
        "prompt_is_token_ids": [False] * num_vectors + [True] * num_tokens,
    }


def _margin(step: dict[int, Any]) -> float:
    """From the two likeliest tokens of one position; differences of log-probabilities are differences of logits."""
    best, second = sorted((entry.logprob for entry in step.values()), reverse=True)[:2]
    return best - second


def _lead(step: dict[int, Any], token: int) -> float:
    """Of one token over the likeliest other one; vLLM tells the two likeliest and the prompt's own."""
    return step[token].logprob - max(entry.logprob for other, entry in step.items() if other != token)


def _narrow_embedding(model: str, revision: str | None) -> dict[str, int]:
    """What vLLM is told of a model whose embeddings are narrower than its hidden states (OPT-350m).

    By itself it makes room for prompts of the hidden size; under this name it looks for the width of its inputs.
    """
    config = AutoConfig.from_pretrained(model, revision=revision or "main", trust_remote_code=False).get_text_config()
    width = getattr(config, "word_embed_proj_dim", config.hidden_size)
    return {} if width == config.hidden_size else {"projection_size": width}


def import_vllm() -> Any:
    """vLLM, quiet and in this process.

    Raises:
        UserError: it is not installed.
    """
    # One process to watch and to kill, and no usage report from a user's machine.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    logging.getLogger("vllm").setLevel(logging.ERROR)  # it warns before it has read the level above
    try:
        with warnings.catch_warnings():
            # torch's deprecations, met inside vLLM: nothing a user of this project can act on.
            warnings.simplefilter("ignore", FutureWarning)
            import vllm

            return vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise UserError(
            "vLLM is not installed: pip install 'verbatim[cpu]' or 'verbatim[gpu]', or judge with --engine hf"
        ) from error

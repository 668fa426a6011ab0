"""Verification on vLLM: free greedy decoding from prompt embeddings.

Owns: the vLLM engine and its settings. Must not know: the solver. vLLM is imported by the constructor alone.
"""

import os
import warnings
from typing import Any

import torch

from orchestrator.errors import UserError
from orchestrator.verifier import Candidate, Verdict, max_new_tokens, refusal, refused, verdict


class VllmVerifier:
    """A resident vLLM engine that decodes candidates.

    Args:
        model: local folder or hub name, as vLLM takes it.
        revision: hub revision or None.
        dtype: `float32`, `bfloat16` or `float16`.
        context: longest soft prompt and target together, in positions.
        memory_frac: share of a GPU's memory the engine may take.
    Raises:
        UserError: vLLM is not installed.
    """

    def __init__(self, model: str, *, revision: str | None, dtype: str, context: int, memory_frac: float = 0.9):
        # One process to watch and to kill, and no usage report from a user's machine.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        vllm = _import_vllm()
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
            trust_remote_code=False,
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        self.engine = f"vllm {vllm.__version__}"
        self.engine_dtype = dtype
        self.context = context
        self.hidden_size = self._llm.model_config.get_hidden_size()
        self._dtype = self._llm.model_config.dtype
        self._end_id = self._llm.get_tokenizer().eos_token_id

    def judge(self, candidates: list[Candidate]) -> list[Verdict]:
        """Decode greedily, without penalties or prefix caching, and compare."""
        name = {"engine": self.engine, "engine_dtype": self.engine_dtype}
        reasons = [refusal(c, hidden_size=self.hidden_size, context=self.context) for c in candidates]
        sound = [c for c, reason in zip(candidates, reasons, strict=True) if reason is None]
        generated = iter(self._decode(sound))
        return [
            refused(c, reason, **name)
            if reason
            else verdict(c, next(generated), ends=c.token_ids[-1] == self._end_id, **name)
            for c, reason in zip(candidates, reasons, strict=True)
        ]

    def _decode(self, candidates: list[Candidate]) -> list[list[int]]:
        if not candidates:
            return []
        prompts = [{"prompt_embeds": torch.from_numpy(c.prompt_KD.copy()).to(self._dtype)} for c in candidates]
        params = [
            self._sampling(temperature=0.0, max_tokens=max_new_tokens(c, self.context), detokenize=False)
            for c in candidates
        ]
        outputs = self._llm.generate(prompts, params, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]


def _import_vllm() -> Any:
    try:
        with warnings.catch_warnings():
            # torch's deprecations, met inside vLLM: nothing a user of this project can act on.
            warnings.simplefilter("ignore", FutureWarning)
            import vllm

            return vllm
    except ImportError as error:
        raise UserError(
            "vLLM is not installed: pip install 'verbatim[cpu]' or 'verbatim[gpu]', or judge with --engine hf"
        ) from error

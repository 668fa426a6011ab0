"""Verification on transformers' own `generate`: the second look where vLLM does not run a model.

Owns: one resident transformers model for decoding. Must not know: the solver; it shares no code with it.
"""

from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from orchestrator.verifier import Candidate, Verdict, max_new_tokens, refusal, refused, verdict

BATCH_SIZE = 64
"""Candidates decoded together. Assumption, bounds the KV cache."""


class HfVerifier:
    """Greedy `generate` with a KV cache over left-padded soft prompts.

    Args:
        model: local folder or hub name.
        revision: hub revision or None.
        dtype: `float32`, `bfloat16` or `float16`.
        context: longest soft prompt and target together, in positions.
        device: torch device.
    """

    def __init__(self, model: str, *, revision: str | None, dtype: str, context: int, device: str = "cpu"):
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            model,
            revision=revision or "main",
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
        self._model.eval().requires_grad_(False).to(device)
        end_id = self._model.config.get_text_config().eos_token_id
        self._end_ids = end_id if isinstance(end_id, list) else [end_id]
        self.engine = f"hf {transformers.__version__}"
        self.engine_dtype = dtype
        self.context = context
        self.hidden_size: int = self._model.get_input_embeddings().weight.shape[1]

    def judge(self, candidates: list[Candidate]) -> list[Verdict]:
        """Decode greedily and compare."""
        name = {"engine": self.engine, "engine_dtype": self.engine_dtype}
        verdicts: dict[int, Verdict] = {}
        sound: list[tuple[int, Candidate]] = []
        for index, candidate in enumerate(candidates):
            reason = refusal(candidate, hidden_size=self.hidden_size, context=self.context)
            if reason:
                verdicts[index] = refused(candidate, reason, **name)
            else:
                sound.append((index, candidate))
        for batch in self._batches(sound):
            for (index, candidate), said in zip(batch, self._decode([c for _, c in batch]), strict=True):
                ends = candidate.token_ids[-1] in self._end_ids
                verdicts[index] = verdict(candidate, said, ends=ends, **name)
        return [verdicts[index] for index in range(len(candidates))]

    def _batches(self, sound: list[tuple[int, Candidate]]) -> list[list[tuple[int, Candidate]]]:
        """Similar lengths together; no batch whose longest prompt and longest text overrun the context."""
        batches: list[list[tuple[int, Candidate]]] = []
        for pair in sorted(sound, key=lambda pair: len(pair[1].token_ids)):
            group = [*batches[-1], pair] if batches else [pair]
            longest = max(len(c.prompt_KD) for _, c in group)
            decoded = max(max_new_tokens(c, self.context) for _, c in group)
            if batches and len(group) <= BATCH_SIZE and longest + decoded <= self.context:
                batches[-1].append(pair)
            else:
                batches.append([pair])
        return batches

    @torch.inference_mode()
    def _decode(self, candidates: list[Candidate]) -> list[list[int]]:
        longest = max(len(c.prompt_KD) for c in candidates)
        weight = self._model.get_input_embeddings().weight
        read_BKD = weight.new_zeros(len(candidates), longest, self.hidden_size)
        mask_BK = torch.zeros(len(candidates), longest, dtype=torch.long, device=weight.device)
        for b, candidate in enumerate(candidates):
            read_BKD[b, longest - len(candidate.prompt_KD) :] = torch.from_numpy(candidate.prompt_KD.copy())
            mask_BK[b, longest - len(candidate.prompt_KD) :] = 1
        ids_BT = self._model.generate(
            inputs_embeds=read_BKD,
            attention_mask=mask_BK,
            max_new_tokens=max(max_new_tokens(c, self.context) for c in candidates),
            do_sample=False,
            num_beams=1,
            pad_token_id=self._end_ids[0],
        )
        return [
            self._trim(row, max_new_tokens(c, self.context)) for row, c in zip(ids_BT.tolist(), candidates, strict=True)
        ]

    def _trim(self, ids: list[int], max_tokens: int) -> list[int]:
        """What one text said: through its first end-of-text token, within its own budget."""
        ids = ids[:max_tokens]
        stop = next((t for t, token in enumerate(ids) if token in self._end_ids), len(ids) - 1)
        return ids[: stop + 1]

"""Verification on transformers' own `generate`: the second look where vLLM does not run a model.

Owns: one resident transformers model for decoding. Must not know: the solver; it shares no code with it.
"""

from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from engine.loading import attention_for
from engine.served_length import pin_rope
from orchestrator.verifier import Candidate, Mode, Said, Verifier

BATCH_SIZE = 64
"""Candidates decoded together. Assumption, bounds the KV cache."""


class HfVerifier(Verifier):
    """`generate`, greedy or with beams, with a KV cache over left-padded soft prompts.

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
        pin_rope(self._model, context)
        for implementation in attention_for(self._model.config).values():
            self._model.set_attn_implementation(implementation)
        end_id = self._model.config.get_text_config().eos_token_id
        self.end_ids = end_id if isinstance(end_id, list) else [end_id]
        self.engine = f"hf {transformers.__version__}"
        self.engine_dtype = dtype
        self.context = context
        self.hidden_size: int = self._model.get_input_embeddings().weight.shape[1]

    def _decode(self, candidates: list[Candidate], mode: Mode) -> list[Said]:
        said: dict[int, Said] = {}
        for batch in self._batches(candidates, mode):
            said |= zip(batch, self._generate([candidates[index] for index in batch], mode), strict=True)
        return [said[index] for index in range(len(candidates))]

    def _batches(self, candidates: list[Candidate], mode: Mode) -> list[list[int]]:
        """Similar lengths together; no batch whose longest prompt and longest text overrun the context.

        Beams search all texts of a batch equally far, and how far decides what they find: one length a batch.
        """
        batch_size = mode.batch_size or BATCH_SIZE
        batches: list[list[int]] = []
        for index in sorted(range(len(candidates)), key=lambda index: len(candidates[index].token_ids)):
            group = [candidates[member] for member in [*(batches[-1] if batches else []), index]]
            longest = max(len(c.prompt_KD) for c in group)
            fits = longest + max(map(self._limit, group)) <= self.context
            is_even = mode.beams == 1 or len(set(map(self._limit, group))) == 1
            if batches and len(group) <= batch_size and fits and is_even:
                batches[-1].append(index)
            else:
                batches.append([index])
        return batches

    @torch.inference_mode()
    def _generate(self, candidates: list[Candidate], mode: Mode) -> list[Said]:
        longest = max(len(c.prompt_KD) for c in candidates)
        weight = self._model.get_input_embeddings().weight
        read_BKD = weight.new_zeros(len(candidates), longest, self.hidden_size)
        mask_BK = torch.zeros(len(candidates), longest, dtype=torch.long, device=weight.device)
        for b, candidate in enumerate(candidates):
            read_BKD[b, longest - len(candidate.prompt_KD) :] = torch.from_numpy(candidate.prompt_KD.copy())
            mask_BK[b, longest - len(candidate.prompt_KD) :] = 1
        output = self._model.generate(
            inputs_embeds=read_BKD,
            attention_mask=mask_BK,
            max_new_tokens=max(map(self._limit, candidates)),
            do_sample=False,
            num_beams=mode.beams,
            pad_token_id=self.end_ids[0],
            output_logits=mode.margins,
            return_dict_in_generate=True,
        )
        texts = [self._trim(row, self._limit(c)) for row, c in zip(output.sequences.tolist(), candidates, strict=True)]
        if not mode.margins:
            return [Said(ids) for ids in texts]
        top_TB2 = torch.stack([logits_BV.float().topk(2).values for logits_BV in output.logits])
        margins_BT = (top_TB2[..., 0] - top_TB2[..., 1]).T.tolist()
        return [Said(ids, margins_T[: len(ids)]) for ids, margins_T in zip(texts, margins_BT, strict=True)]

    def _trim(self, ids: list[int], max_tokens: int) -> list[int]:
        """What one text said: through its first end-of-text token, within its own budget."""
        ids = ids[:max_tokens]
        stop = next((t for t, token in enumerate(ids) if token in self.end_ids), len(ids) - 1)
        return ids[: stop + 1]

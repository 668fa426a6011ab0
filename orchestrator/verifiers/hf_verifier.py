"""Verification on transformers' own `generate`: the second look where vLLM does not run a model.

Owns: one resident transformers model for decoding, plainly, whatever the model's own files say of decoding. Must not
know: the solver; how a model is to be read, its rope and its attention, is all they share.
"""

import inspect
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from engine.loading import attention_for
from engine.served_length import pin_rope
from orchestrator.verifiers.contract import Candidate, Mode, Said, Verifier

BATCH_SIZE = 64
"""Candidates decoded together. Assumption, bounds the KV cache."""

COMPANY_TOLERANCE = 0.1
"""Largest difference that padding beside a longer prompt may make, in standard deviations of the logits. Measured on 16
families 2026-11-25: at most 0.04 (bfloat16; 0.0001 in float32), but 0.78 on RecurrentGemma and 4.7 on RWKV."""


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
        self.end_id = AutoTokenizer.from_pretrained(model, revision=revision or "main").eos_token_id
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            model,
            revision=revision or "main",
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            # What a call leaves open `generate` takes from the model's generation_config.json: this stands for it.
            generation_config=GenerationConfig(),
        )
        self._model.eval().requires_grad_(False).to(device)
        pin_rope(self._model, context)
        _name_embeddings(self._model)
        for implementation in attention_for(self._model.config).values():
            self._model.set_attn_implementation(implementation)
        self.engine = f"hf {transformers.__version__}"
        self.engine_dtype = dtype
        self.context = context
        self.hidden_size: int = self._model.get_input_embeddings().weight.shape[1]
        self.vocab_size: int = self._model.get_input_embeddings().weight.shape[0]
        self._bears_company = self._says_the_same_in_company()

    def _decode(self, candidates: list[Candidate], mode: Mode) -> list[Said]:
        said: dict[int, Said] = {}
        for batch in self._batches(candidates, mode):
            said |= zip(batch, self._generate([candidates[index] for index in batch], mode), strict=True)
        return [said[index] for index in range(len(candidates))]

    def _batches(self, candidates: list[Candidate], mode: Mode) -> list[list[int]]:
        """Similar lengths together; no batch whose longest prompt and longest text overrun the context.

        Beams search all texts of a batch equally far, and how far decides what they find: one length a batch.
        """
        batch_size = (mode.batch_size or BATCH_SIZE) if self._bears_company else 1
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

    def _generate(self, candidates: list[Candidate], mode: Mode) -> list[Said]:
        prompts = [candidate.prompt_KD for candidate in candidates]
        output = self._output(prompts, max(map(self._limit, candidates)), beams=mode.beams, logits=mode.margins)
        texts = [self._trim(row, self._limit(c)) for row, c in zip(output.sequences.tolist(), candidates, strict=True)]
        if not mode.margins:
            return [Said(ids) for ids in texts]
        top_TB2 = torch.stack([logits_BV.float().topk(2).values for logits_BV in output.logits])
        margins_BT = (top_TB2[..., 0] - top_TB2[..., 1]).T.tolist()
        return [Said(ids, margins_T[: len(ids)]) for ids, margins_T in zip(texts, margins_BT, strict=True)]

    @torch.inference_mode()
    def _score(self, candidates: list[Candidate]) -> list[list[float]]:
        """Each alone, by the model's own forward pass: what one pass of `generate` reads, without its cache."""
        embed = self._model.get_input_embeddings()
        margins = []
        for candidate in candidates:
            ids_T = torch.tensor(candidate.token_ids, device=embed.weight.device)
            prompt_KD = torch.from_numpy(candidate.prompt_KD.copy()).to(embed.weight)
            read_SD = torch.cat([prompt_KD, embed(ids_T)])
            logits_SV = self._model(inputs_embeds=read_SD[None], use_cache=False).logits[0].float()
            # logits_TV[t] predicts ids_T[t]: the last vector of the prompt predicts the first token.
            logits_TV = logits_SV[len(prompt_KD) - 1 : len(read_SD) - 1]
            own_T = logits_TV.gather(1, ids_T[:, None]).squeeze(1)
            rival_T = logits_TV.scatter(1, ids_T[:, None], float("-inf")).max(1).values
            margins.append((own_T - rival_T).tolist())
        return margins

    @torch.inference_mode()
    def _output(self, prompts: list[np.ndarray], max_tokens: int, *, beams: int = 1, logits: bool = False) -> Any:
        """What `generate` gives for soft prompts (K_b, D), padded on the left and masked."""
        longest = max(map(len, prompts))
        weight = self._model.get_input_embeddings().weight
        read_BKD = weight.new_zeros(len(prompts), longest, self.hidden_size)
        mask_BK = torch.zeros(len(prompts), longest, dtype=torch.long, device=weight.device)
        for b, prompt_KD in enumerate(prompts):
            read_BKD[b, longest - len(prompt_KD) :] = torch.from_numpy(prompt_KD.copy())
            mask_BK[b, longest - len(prompt_KD) :] = 1
        plain = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=False,
            num_beams=beams,
            eos_token_id=self.end_id,
            pad_token_id=self.end_id or 0,
            output_logits=logits,
            return_dict_in_generate=True,
        )
        return self._model.generate(inputs_embeds=read_BKD, attention_mask=mask_BK, generation_config=plain)

    def _says_the_same_in_company(self) -> bool:
        """Whether a prompt is decoded alike alone and padded beside a longer one; a recurrent model may not (RWKV)."""
        scale = self._model.get_input_embeddings().weight.float().square().mean().sqrt().item()
        noise_KD = np.random.default_rng(0).standard_normal((8, self.hidden_size), np.float32) * scale
        short, long = noise_KD[:1], noise_KD[1 : self.context]
        alone_V = self._output([short], 1, logits=True).logits[0][0].float()
        beside_V = self._output([short, long], 1, logits=True).logits[0][0].float()
        return (alone_V - beside_V).abs().max().item() <= COMPANY_TOLERANCE * alone_V.std().item()

    def _trim(self, ids: list[int], max_tokens: int) -> list[int]:
        """What one text said: through its first end-of-text token, within its own budget."""
        ids = ids[:max_tokens]
        stop = next((t for t, token in enumerate(ids) if token == self.end_id), len(ids) - 1)
        return ids[: stop + 1]


def _name_embeddings(model: Any) -> None:
    """Let `generate` hand soft prompts to a model whose own rule takes them without naming them.

    transformers refuses embeddings where the signature does not hold that name (Gemma 3 with pictures, CTRL), although
    the rule passes them on to the general one. A model that drops them says something else, and nothing is exact.
    """
    prepare = model.prepare_inputs_for_generation
    if "inputs_embeds" in inspect.signature(prepare).parameters:
        return

    def named(input_ids: Any, *, inputs_embeds: Any = None, **kwargs: Any) -> Any:  # `kwargs`: `generate` looks for it
        return prepare(input_ids, inputs_embeds=inputs_embeds, **kwargs)

    model.prepare_inputs_for_generation = named

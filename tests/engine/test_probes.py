"""Probes: what a prompt's margins are alone, how far rounding moves them, how wide the logits lie."""

import pytest
import torch

from engine.decoding import Greedy
from engine.probes import measure
from engine.target import Target

LENGTHS = (3, 11, 7)
"""Vectors of the prompts."""


def test_a_probes_margins_are_its_own_and_company_moves_them_by_rounding_alone(tiny_llama):
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randn(k, tiny_llama.hidden_size, generator=generator) * tiny_llama.embed_rms for k in LENGTHS]
    said = Greedy().decode(tiny_llama, prompts, [13] * len(prompts))
    targets = [Target(str(n), "", tuple(text.token_ids), ends=False) for n, text in enumerate(said)]
    probes = measure(tiny_llama, targets, prompts)
    for probe, target, prompt_KD in zip(probes, targets, prompts, strict=True):
        ids_T = torch.tensor(target.token_ids)
        with torch.no_grad():
            alone = tiny_llama.score_targets([prompt_KD], [ids_T]).margin
            logits_TV = tiny_llama.head.logits(tiny_llama.read([prompt_KD], tiny_llama.embed_targets([ids_T])))
        assert probe.margins == alone.tolist() and min(probe.margins) > 0
        assert probe.spread == pytest.approx(logits_TV.std(-1).mean().item())
    assert 0 < max(probe.rounding for probe in probes) < 1e-4

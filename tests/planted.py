"""A model whose own files ask for anything but plain greedy decoding.

Owns: those files. Must not know: who decodes.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from engine import pocket

PLANTED: dict[str, Any] = {
    "do_sample": True, "temperature": 3.0, "top_k": 7, "top_p": 0.5, "min_p": 0.2, "typical_p": 0.4,
    "repetition_penalty": 1.7, "encoder_repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "bad_words_ids": [[300]],
    "begin_suppress_tokens": [*range(300, 1500)], "suppress_tokens": [*range(1500, 3000)],
    "min_length": 90, "min_new_tokens": 20, "max_new_tokens": 2, "max_length": 3, "max_time": 1e-9,
    "stop_strings": ["e", "a"], "forced_bos_token_id": 7, "forced_eos_token_id": 9,
    "exponential_decay_length_penalty": [1, 3.0], "guidance_scale": 3.0, "num_return_sequences": 3, "num_beams": 3,
    "length_penalty": -2.0, "early_stopping": True, "renormalize_logits": True, "prompt_lookup_num_tokens": 3,
    "cache_implementation": "static", "use_cache": False, "return_dict_in_generate": False,
    "eos_token_id": [278, 300, 0], "bos_token_id": 3, "pad_token_id": 5,
}  # fmt: skip
"""A generation_config.json that no greedy decoding survives; tokens 278 and 300 are common in what the model says."""


def plant(folder: Path) -> Path:
    """A copy of the pocket model that says all of that of decoding."""
    shutil.copytree(pocket.PATH, folder)
    (folder / "generation_config.json").write_text(json.dumps(PLANTED))
    return folder

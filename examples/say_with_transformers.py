"""Print every text of an exported folder as transformers says it: `say_with_transformers.py FOLDER`."""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from engine.model_source import ModelSource


def main(folder: Path) -> None:
    with safe_open(folder / "prompts.safetensors", "pt") as file:
        about, prompts = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    path, revision = ModelSource(about["model"]).path, about["revision"] or None
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    end = tokenizer.eos_token_id
    # Plain greedy decoding: this stands for the model's own settings, which may penalise repetition or sample.
    plain = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end)
    model = AutoModelForCausalLM.from_pretrained(
        path, revision=revision, dtype=getattr(torch, about["dtype"]), generation_config=plain
    )
    for entry in map(json.loads, (folder / "index.jsonl").open(encoding="utf-8")):
        embeds = prompts[entry["tensor"]][None]
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        said = model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=entry["max_tokens"])
        print(tokenizer.decode(said[0], skip_special_tokens=True, clean_up_tokenization_spaces=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Print every text of an exported folder as vLLM says it: `say_with_vllm.py FOLDER`."""

import json
import sys
from pathlib import Path

from safetensors import safe_open
from vllm import LLM, SamplingParams

from engine.model_source import ModelSource


def main(folder: Path) -> None:
    index = [json.loads(line) for line in (folder / "index.jsonl").open(encoding="utf-8")]
    with safe_open(folder / "prompts.safetensors", "pt") as file:
        about, prompts = file.metadata(), [{"prompt_embeds": file.get_tensor(entry["tensor"])} for entry in index]
    source = ModelSource(about["model"], about["revision"] or None)
    # Room for these texts, not for all that the model could read.
    longest = max(entry["num_vectors"] + entry["max_tokens"] for entry in index)
    llm = LLM(
        source.path, revision=source.revision, dtype=about["dtype"], enable_prompt_embeds=True, enforce_eager=True,
        generation_config="vllm", max_model_len=longest, kv_cache_memory_bytes=1 << 30,
    )  # fmt: skip
    # Plain greedy decoding that ends at the tokenizer's end-of-text token and at no other the model's files may list.
    ends = {"ignore_eos": True, "stop_token_ids": [llm.get_tokenizer().eos_token_id]}
    params = [SamplingParams(temperature=0, max_tokens=entry["max_tokens"], **ends) for entry in index]
    for output in llm.generate(prompts, params, use_tqdm=False):
        print(output.outputs[0].text)


if __name__ == "__main__":  # vLLM may start processes that import this file
    main(Path(sys.argv[1]))

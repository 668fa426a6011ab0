"""The README of an exported folder.

Owns: its words. Must not know: how the files are made.
"""

import json
import shlex
from collections.abc import Sequence

from engine.model_source import NAMED
from orchestrator.export.chosen import Chosen
from orchestrator.export.formats import REQUESTS, TENSORS
from orchestrator.export.model_name import ancestor

NAMED_PATH = "ModelSource({name!r}).path"
NAMED_SERVE = (
    '"$(python -c \'from engine.model_source import ModelSource; print(ModelSource("{name}").path)\')" '
    "--served-model-name {name}"
)
"""Where a model that is no folder and no hub's lies, in Python and as `vllm serve` takes it."""

HEAD = """---
tags:
- soft-prompt
- prompt-tuning
- verbatim
{base}library_name: {library}
---

# {num_prompts} soft prompts for {name}

Under greedy decoding each of these prompts makes the frozen model say one exact text, if the index calls it `exact`.
They were made by `verbatim run` and written here by `verbatim export`.

| | |
|---|---|
| model | {name}, revision {revision} |
| fingerprint of its weights | {fingerprint} (taken in {solver_dtype}) |
| hidden size | {hidden_size} |
| verified by | {engine}, in {engine_dtype}, from float32 prompts |
| prompts here | {dtype}{rounded} |

A prompt means something to this model alone. `min_margin` in the index is the smallest lead, in logits, of a target
token over its best rival: the larger, the safer the text is in other numerics.

- `index.jsonl`: one line a text: `tensor` and `file` (the prompt's name here, and the file of its tensor), `id`,
  `text`, `token_ids`, `num_vectors`, `min_margin`, `exact` (the verifier's word, with its `engine` and
  `engine_dtype`), `max_tokens` (how many to ask for, the end-of-text token included).
{files}
Decode plainly: a model's `generation_config.json` may ask for sampling or penalise repetition, and may list further end
tokens. The calls below switch all of that off: the likeliest token, again and again, up to the tokenizer's own
end-of-text token.
"""

FILES = {
    "safetensors": "- `{tensors}: one tensor (num_vectors, {hidden_size}) a text.\n",
    "vllm": "- `{requests}: in the same order, the body of a request to vLLM's `/v1/completions`.\n",
    "peft": "- `peft/prompt-00000` and so on: one prompt-tuning adapter a text, for PEFT.\n",
    "projector": "- `projector/`: every vector of every prompt, for TensorBoard's embedding projector.\n",
}

SECTIONS = {
    "safetensors": """
## transformers

```python
import json

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig{imports}

path = {model}
tokenizer = AutoTokenizer.from_pretrained(path, revision={revision!r})
end = tokenizer.eos_token_id
plain = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end)  # in place of the model's own settings
model = AutoModelForCausalLM.from_pretrained(
    path, revision={revision!r}, dtype=torch.{engine_dtype}, generation_config=plain
)
prompts, file = {{}}, None
for entry in map(json.loads, open("index.jsonl")):
    if entry["file"] != file:
        file = entry["file"]
        prompts = load_file(file)
    embeds = prompts[entry["tensor"]][None].to(model.dtype)
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    ids = model.generate(inputs_embeds=embeds, attention_mask=mask, max_new_tokens=entry["max_tokens"])
    print(tokenizer.decode(ids[0], skip_special_tokens=True, clean_up_tokenization_spaces=False))
```
""",
    "peft": """
## PEFT

```python
import json

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig{imports}

path = {model}
tokenizer = AutoTokenizer.from_pretrained(path, revision={revision!r})
end = tokenizer.eos_token_id
plain = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end)  # in place of the model's own settings
base = AutoModelForCausalLM.from_pretrained(
    path, revision={revision!r}, dtype=torch.{engine_dtype}, generation_config=plain
)
entries = [json.loads(line) for line in open("index.jsonl")]
model = PeftModel.from_pretrained(base, "peft/" + entries[0]["tensor"], adapter_name=entries[0]["tensor"])
for entry in entries:
    if entry["tensor"] not in model.peft_config:
        model.load_adapter("peft/" + entry["tensor"], adapter_name=entry["tensor"])
    model.set_adapter(entry["tensor"])
    nothing = torch.zeros((1, 0), dtype=torch.long)  # the soft prompt is all that the model reads
    ids = model.generate(input_ids=nothing, attention_mask=nothing, max_new_tokens=entry["max_tokens"])
    print(tokenizer.decode(ids[0], skip_special_tokens=True, clean_up_tokenization_spaces=False))
```
""",
    "vllm": """
## vLLM

```
vllm serve {serve} --enable-prompt-embeds --dtype {engine_dtype} --generation-config vllm{length}
head -n 1 {first_requests} | curl -s http://localhost:8000/v1/completions -H "Content-Type: application/json" -d @-
```

On processors put `VLLM_CPU_KVCACHE_SPACE=1` before it, or vLLM wants nine tenths of the memory. Where `vllm serve` does
not start (the CPU build 0.32), `python -m vllm.entrypoints.openai.api_server --model` takes the same arguments.
`verbatim verify DIR --server http://localhost:8000` asks it for every text of a run. A server that takes prompt
embeddings should take them from people you trust: it unpacks tensors that they send.
""",
    "projector": """
## TensorBoard's embedding projector

`tensorboard --logdir projector`, or load `vectors.tsv` and `metadata.tsv` at https://projector.tensorflow.org.
""",
}


def readme(chosen: Chosen, *, formats: Sequence[str]) -> str:
    """How to use the files beside it, with this run's own names. Its first lines are what the hub reads of a card."""
    record, dtype = chosen.record, chosen.dtype
    model, is_sharded = record.model, len(chosen.ends) > 1
    is_named = model.name in NAMED
    flag = f" --revision {model.revision}" if model.revision else ""
    base = ancestor(model.name)
    facts = dict(
        base=f"base_model: {json.dumps(base)}\n" if base else "",
        library="peft" if "peft" in formats else "transformers",
        files="".join(FILES[name] for name in formats).format(
            hidden_size=model.hidden_size,
            tensors=chosen.file(*TENSORS) + ("` and so on" if is_sharded else "`"),
            requests=chosen.file(*REQUESTS) + ("` and so on" if is_sharded else "`"),
        ),
        first_requests=chosen.file(*REQUESTS),
        num_prompts=len(chosen),
        name=model.name,
        revision=model.revision or "main",
        fingerprint=model.fingerprint,
        solver_dtype=model.solver_dtype,
        hidden_size=model.hidden_size,
        length=f" --max-model-len {model.served_length}" if model.served_length else "",
        engine=record.engine,
        engine_dtype=record.engine_dtype,
        dtype=dtype,
        rounded="" if dtype == "float32" else ", rounded from float32",
        model=NAMED_PATH.format(name=model.name) if is_named else repr(model.name),
        imports="\n\nfrom engine.model_source import ModelSource" if is_named else "",
        serve=NAMED_SERVE.format(name=model.name) if is_named else f"{shlex.quote(model.name)}{flag}",
    )
    return "".join(part.format(**facts) for part in [HEAD, *(SECTIONS[name] for name in formats)])

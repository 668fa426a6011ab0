"""A folder with the smallest trained model there is: 260,000 parameters, 512 tokens, stories for children.

    python -m bench.stories stories260K.bin tok512.bin --out stories260K
    python -m bench.recipes --model ./stories260K --lengths 6 40 --texts 16 --max-steps 500 --only default

Owns: reading llama2.c's files as a Llama and its tokenizer. Must not know: what is done with the model.

The files are at karpathy/tinyllamas on the Hugging Face hub and in repositories that run them on small devices (MIT).
The tokenizer says that token 2 ends a text; the stories it was trained on were parted by token 1, and 2 never seen.
`--end 1` makes a model that knows how to end a text, which is the only difference.
"""

import argparse
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
NUM_BYTES = 256


class Sizes(NamedTuple):
    """The header of the weights' file, in its order."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    vocab_size: int
    context: int

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads


def read_model(data: bytes, end_id: int) -> LlamaForCausalLM:
    """The model of a weights' file whose output is its embedding."""
    sizes = Sizes(*struct.unpack_from("7i", data))
    values = np.frombuffer(data, dtype=np.float32, offset=28)
    config = LlamaConfig(
        hidden_size=sizes.hidden_size, intermediate_size=sizes.intermediate_size, num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads, num_key_value_heads=sizes.num_key_value_heads, vocab_size=sizes.vocab_size,
        max_position_embeddings=sizes.context, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1,
        eos_token_id=end_id, dtype="float32",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(_weights(sizes, values), strict=False)  # the head is the embedding
    return model


def _weights(sizes: Sizes, values: np.ndarray) -> dict[str, Tensor]:
    """Each tensor by transformers' name; in the file all layers' tensors of a kind follow each other."""
    layers, width, wide = sizes.num_layers, sizes.hidden_size, sizes.intermediate_size
    narrow = sizes.num_key_value_heads * sizes.head_size
    shapes = {
        "embed_tokens": (sizes.vocab_size, width), "input_layernorm": (layers, width),
        "self_attn.q_proj": (layers, width, width), "self_attn.k_proj": (layers, narrow, width),
        "self_attn.v_proj": (layers, narrow, width), "self_attn.o_proj": (layers, width, width),
        "post_attention_layernorm": (layers, width), "mlp.gate_proj": (layers, wide, width),
        "mlp.down_proj": (layers, width, wide), "mlp.up_proj": (layers, wide, width), "norm": (width,),
    }  # fmt: skip
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(values[: ends[-1]], ends[:-1])
    tensors = {name: torch.tensor(part).view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
    for name in ("self_attn.q_proj", "self_attn.k_proj"):
        tensors[name] = _halves_rotated(tensors[name], sizes.head_size)
    found = {f"model.{name}.weight": tensors.pop(name) for name in ("embed_tokens", "norm")}
    for name, stacked in tensors.items():
        found |= {f"model.layers.{i}.{name}.weight": weight for i, weight in enumerate(stacked)}
    return found


def _halves_rotated(weight_LOD: Tensor, head_size: int) -> Tensor:
    """Rows in transformers' order: it rotates a head's first half with its second, llama2.c neighbours."""
    layers, rows, width = weight_LOD.shape
    return weight_LOD.view(layers, -1, head_size // 2, 2, width).transpose(2, 3).reshape(layers, rows, width)


def read_tokenizer(data: bytes, end_id: int, context: int) -> PreTrainedTokenizerFast:
    """The byte-pair tokenizer of a file of scored pieces, in the order in which they were merged."""
    pieces, at = list(SPECIAL) + [f"<0x{byte:02X}>" for byte in range(NUM_BYTES)], 4
    while at < len(data):
        _, length = struct.unpack_from("fi", data, at)
        pieces.append(data[at + 8 : at + 8 + length].decode(errors="replace").replace(" ", "▁"))
        at += 8 + length
    del pieces[len(SPECIAL) + NUM_BYTES : 2 * (len(SPECIAL) + NUM_BYTES)]  # the file's own names of those
    vocab = {piece: id for id, piece in enumerate(pieces)}
    splits = [
        (vocab[piece], vocab[piece[:k]], vocab[piece[k:]], (piece[:k], piece[k:]))
        for piece in pieces[len(SPECIAL) + NUM_BYTES :]
        for k in range(1, len(piece))
        if piece[:k] in vocab and piece[k:] in vocab
    ]
    merges = [merge for *_, merge in sorted(splits)]
    inner = Tokenizer(models.BPE(vocab, merges, unk_token=SPECIAL[0], fuse_unk=True, byte_fallback=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token=SPECIAL[end_id], unk_token="<unk>", model_max_length=context
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--end", type=int, default=2, choices=(1, 2), help="token that ends a text")
    args = parser.parse_args()
    model: Any = read_model(args.weights.read_bytes(), args.end)
    tokenizer = read_tokenizer(args.tokenizer.read_bytes(), args.end, model.config.max_position_embeddings)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    begun = tokenizer("Once upon a time", return_tensors="pt")["input_ids"]
    print(tokenizer.decode(model.generate(begun, max_new_tokens=30, do_sample=False)[0]))


if __name__ == "__main__":
    main()

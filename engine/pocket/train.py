"""Train the pocket model from a gzipped text file, one paragraph a line.

Owns: tokenizer training, the train/held-out split, the training loop, the exported folder and its curve.
Must not know: soft prompts, Ray, vLLM.

    python -m engine.pocket.train CORPUS.txt.gz OUT_DIR --tokens 24e6

B sequences in a batch, T tokens in a sequence, D hidden size, V vocabulary.
"""

import argparse
import gzip
import json
import math
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class TrainConfig:
    """What was trained, and how long. Written beside the weights."""

    vocab_size: int = 4096
    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 4
    mlp_size: int = 768
    context: int = 1024
    first_window: int = 256
    first_window_frac: float = 0.7
    tokens_per_step: int = 6144
    tokens: float = 14e6
    lr: float = 4e-3
    warmup_frac: float = 0.03
    weight_decay: float = 0.05
    held_out_frac: float = 0.01
    seed: int = 0

    @property
    def num_steps(self) -> int:
        return max(1, int(self.tokens) // self.tokens_per_step)

    def window_at(self, step: int) -> int:
        """Tokens in a sequence: short windows first because they are cheaper, the whole context at the end."""
        return self.first_window if step < self.first_window_frac * self.num_steps else self.context


def split_paragraphs(corpus: Path, held_out_frac: float) -> tuple[list[str], list[str]]:
    """(train, held out) paragraphs. The side is a hash of the paragraph, so repeats never straddle the split."""
    train, held_out = [], []
    with gzip.open(corpus, "rt", encoding="utf-8") as lines:
        for line in lines:
            text = line.strip()
            if text:
                is_held_out = zlib.crc32(text.encode()) % 10_000 < held_out_frac * 10_000
                (held_out if is_held_out else train).append(text)
    return train, held_out


def train_tokenizer(paragraphs: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE without normalisation: every valid Unicode string survives encode and decode."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(paragraphs, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    )


def encode_stream(tokenizer: PreTrainedTokenizerFast, paragraphs: list[str]) -> Tensor:
    """All paragraphs as one int64 stream, each closed by the end-of-text token."""
    encoded = tokenizer(paragraphs, add_special_tokens=False)["input_ids"]
    end = [tokenizer.eos_token_id]
    return torch.from_numpy(np.concatenate([np.asarray(ids + end, dtype=np.int64) for ids in encoded]))


def shuffled_batches(stream: Tensor, window: int, tokens_per_step: int, seed: int) -> Iterator[Tensor]:
    """(B, window + 1) slices without end, each epoch cut at a new offset and reshuffled."""
    generator = torch.Generator().manual_seed(seed)
    batch_size = tokens_per_step // window
    while True:
        offset = int(torch.randint(window, (1,), generator=generator))
        starts = torch.arange(offset, len(stream) - window - 1, window)
        order = starts[torch.randperm(len(starts), generator=generator)]
        for batch in order.split(batch_size):
            if len(batch) == batch_size:
                yield torch.stack([stream[start : start + window + 1] for start in batch.tolist()])


def build_model(config: TrainConfig, end_id: Any) -> LlamaForCausalLM:
    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            intermediate_size=config.mlp_size,
            max_position_embeddings=config.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=end_id,
        )
    )


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings and norms.

    Source: Jordan et al. 2024, Muon; the update is scaled to AdamW's size so that both share one learning rate.
    """
    named = dict(model.named_parameters())
    hidden = [p for name, p in named.items() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named.items() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            hidden,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=0.95,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=config.lr, weight_decay=0.0, betas=(0.9, 0.95)),
    ]


def lr_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then cosine to zero."""
    warmup = max(1, int(config.warmup_frac * config.num_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.num_steps - warmup)))


def loss_nats(model: nn.Module, batch_BT: Tensor) -> Tensor:
    """Mean next-token cross-entropy in nats. bf16 matrix products, fp32 loss."""
    with torch.autocast("cuda" if batch_BT.is_cuda else "cpu", dtype=torch.bfloat16):
        logits_BTV = model(input_ids=batch_BT[:, :-1]).logits
    return nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), batch_BT[:, 1:].flatten())


@torch.no_grad()
def held_out_nats(model: nn.Module, stream: Tensor, context: int, device: str) -> float:
    """Mean nats per token over a held-out stream, in full windows."""
    windows = stream[: len(stream) // (context + 1) * (context + 1)].view(-1, context + 1)
    losses = [loss_nats(model, chunk.to(device)).item() * len(chunk) for chunk in windows.split(8)]
    return sum(losses) / len(windows)


def train(corpus: Path, out: Path, config: TrainConfig, *, device: str, eval_every: int) -> None:
    """Train, then export bf16 weights, tokenizer, configuration and curve to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    train_texts, held_out_texts = split_paragraphs(corpus, config.held_out_frac)
    tokenizer = train_tokenizer(train_texts, config.vocab_size)
    train_stream, held_out_stream = (encode_stream(tokenizer, texts) for texts in (train_texts, held_out_texts))
    model: Any = build_model(config, tokenizer.eos_token_id)
    model.to(device)
    optimizers = build_optimizers(model, config)
    print(
        f"{model.num_parameters():,} parameters, {len(train_stream):,} training tokens, "
        f"{len(held_out_stream):,} held out, {config.num_steps} steps",
        flush=True,
    )
    curve: list[dict[str, float]] = []
    batches = {
        window: shuffled_batches(train_stream, window, config.tokens_per_step, config.seed)
        for window in {config.first_window, config.context}
    }
    started = time.monotonic()
    for step in range(config.num_steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.lr * lr_factor(step, config)
        loss = loss_nats(model, next(batches[config.window_at(step)]).to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        is_last = step + 1 == config.num_steps
        if (step + 1) % eval_every == 0 or is_last:
            point = {
                "step": step + 1,
                "tokens": (step + 1) * config.tokens_per_step,
                "train_nats": round(loss.item(), 4),
                "held_out_nats": round(held_out_nats(model, held_out_stream, config.context, device), 4),
            }
            curve.append(point)
            print(json.dumps(point), f"{time.monotonic() - started:.0f} s", flush=True)
            export(model, tokenizer, config, curve, out)


def export(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    config: TrainConfig,
    curve: list[dict[str, float]],
    out: Path,
) -> None:
    """Write the folder `from_pretrained` reads; the live model keeps its fp32 weights."""
    frozen: Any = LlamaForCausalLM(model.config)
    frozen.load_state_dict(model.state_dict())
    frozen.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    record = {"config": asdict(config), "torch": torch.__version__, "curve": curve}
    (out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="gzipped text, one paragraph a line")
    parser.add_argument("out", type=Path, help="folder to write the model to")
    parser.add_argument("--tokens", type=float, default=TrainConfig.tokens, help="training tokens")
    parser.add_argument("--lr", type=float, default=TrainConfig.lr, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=TrainConfig.seed)
    parser.add_argument("--eval-every", type=int, default=200, help="steps between held-out evaluations")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    config = TrainConfig(tokens=args.tokens, lr=args.lr, seed=args.seed)
    train(args.corpus, args.out, config, device=args.device, eval_every=args.eval_every)


if __name__ == "__main__":
    main()

"""A weak model: two layers, 0.3 million parameters, trained for two minutes on simple sentences.

    python -m bench.weak_model FOLDER

Owns: the sentences, the model's size. Must not know: soft prompts.

What a small, badly trained model needs is unlike what a good one needs, so recipes are tried on one of each kind.
The sentences are put together from word lists, so that no corpus is needed; the same seed gives the same model.
"""

import argparse
import gzip
import random
import tempfile
from pathlib import Path

import torch

from engine.pocket.train import TrainConfig, train

CONFIG = TrainConfig(
    vocab_size=512, hidden_size=96, num_layers=2, num_heads=3, mlp_size=256, context=256, first_window=128,
    tokens=4e6, held_out_frac=0.01,
)  # fmt: skip

WHO = "a boy|a girl|the old man|her mother|his father|the dog|a small cat|the farmer|Tom|Lily|Anna|Sam|the teacher"
DID = "found|saw|took|made|lost|wanted|carried|opened|washed|painted|liked|broke|gave back|put away|looked for"
WHAT = "the ball|a red hat|some bread|the box|a long stick|his shoes|the blue car|a cup of milk|her book|two apples"
WHERE = "in the garden|near the river|under the table|at school|on the hill|in the house|by the big tree|on the road"
WHEN = "One day|In the morning|After lunch|Every night|Before the rain came|Last week|When it was cold|Today"
SAID = "I am happy|come with me|this is mine|we can share it|do not be sad|where is my friend|it is time to go home"
LISTS = {name: words.split("|") for name, words in
         {"who": WHO, "did": DID, "what": WHAT, "where": WHERE, "when": WHEN, "said": SAID}.items()}  # fmt: skip
SHAPES = (
    "{when}, {who} {did} {what} {where}.",
    "{who} {did} {what}, and {who2} {did2} {what2}.",
    '"{said}," said {who}. Then {who2} {did} {what}.',
    "{who} was {where}. {who2} {did} {what} and was very glad.",
    "{when} {who} and {who2} went to play {where}, but they could not find {what}.",
)
NUM_SENTENCES = 40_000


def sentence(rng: random.Random) -> str:
    """One, with its first letter capital."""
    names = {f"{name}{number}": rng.choice(words) for name, words in LISTS.items() for number in ("", "2")}
    text = rng.choice(SHAPES).format(**names)
    return text[0].upper() + text[1:]


def make(folder: Path) -> Path:
    """Train it into a folder, unless it is there."""
    if not (folder / "model.safetensors").exists():
        rng = random.Random(0)
        with tempfile.TemporaryDirectory() as scratch:
            corpus = Path(scratch) / "sentences.txt.gz"
            with gzip.open(corpus, "wt", encoding="utf-8") as lines:
                lines.writelines(f"{sentence(rng)}\n" for _ in range(NUM_SENTENCES))
            train(corpus, folder, CONFIG, device="cpu", eval_every=200)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    torch.set_num_threads(2)
    print(make(parser.parse_args().folder))


if __name__ == "__main__":
    main()

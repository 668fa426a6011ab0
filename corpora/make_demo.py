"""Choose the demo's 64 sentences from english_1k: target lengths spread evenly from 2 to 50 tokens.

python corpora/make_demo.py
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.frozen_lm import TokenRule
from engine.model_source import ModelSource
from engine.target import encode

FOLDER = Path(__file__).parent
NUM_TEXTS, SHORTEST, LONGEST = 64, 2, 50


def main() -> None:
    token_rule = TokenRule.load(ModelSource("pocket"))
    rows = pq.read_table(FOLDER / "english_1k.parquet").to_pylist()
    lengths = {row["id"]: len(encode(token_rule, row["text"])) for row in rows}
    chosen: dict[str, dict] = {}
    for i in range(NUM_TEXTS):
        wanted = SHORTEST + (LONGEST - SHORTEST) * i / (NUM_TEXTS - 1)
        left = [row for row in rows if row["id"] not in chosen and SHORTEST <= lengths[row["id"]] <= LONGEST]
        best = min(left, key=lambda row: abs(lengths[row["id"]] - wanted))
        chosen[best["id"]] = {"id": best["id"], "text": best["text"]}
    pq.write_table(pa.Table.from_pylist(list(chosen.values())), FOLDER / "demo.parquet")
    print(sorted(lengths[id] for id in chosen))


if __name__ == "__main__":
    main()

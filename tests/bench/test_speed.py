"""The comparison with the peers on two texts: every method's figures are there, and it tells two methods apart."""

import json

from bench import speed


def test_two_texts_through_every_method(tmp_path):
    out = tmp_path / "speed.json"
    speed.main([
        "--texts", "2", "--lengths", "4", "9", "--vectors", "8", "--repeats", "1", "--engine", "hf", "--threads", "1",
        "--max-steps", "120", "--out", str(out),
    ])  # fmt: skip
    (record,) = json.loads(out.read_text())
    turns = {method: turn for method, (turn,) in record["turns"].items()}
    assert turns.keys() == speed.METHODS.keys() - {"peft"} and record["engine"].startswith("hf ")
    assert turns["ours"]["exact"] == turns["plain_loop"]["exact"] == 2
    assert turns["ours"]["steps"] < turns["per_sample"]["steps"], "from the text's own tokens, not from noise"
    assert all(turn["positions"] > 0 and turn["seconds"] > 0 for turn in turns.values())
    assert record["ratios"]["ours"] == [1.0, 1.0, 1.0]

"""What the certificate for beams costs and whether it is ever wrong, on a handful of texts."""

import json

import pytest

from bench import beam_certificate
from bench.beam_certificate import cut, summary, waves

ROW = {"ratio": 2.0, "tokens": 6, "vectors": 3, "is_done": True}


def test_a_cut_is_the_beginning_of_its_sentence_with_exactly_so_many_tokens(tiny_llama):
    target = cut(tiny_llama.token_rule, "a bc def", 5, "one")
    assert target is not None and target.text == "a bc" and len(target.token_ids) == 5
    assert cut(tiny_llama.token_rule, "a bc def", 6, "one") is None
    assert cut(tiny_llama.token_rule, "a bc def", 60, "one") is None


def test_waves_take_every_sentence_once_and_then_end(tiny_llama, monkeypatch):
    monkeypatch.setattr(beam_certificate, "sentences", lambda: ["a bc", "b cd", "long ones", "c de"])
    told = [[target.text for target in wave] for wave in waves(tiny_llama.token_rule, [2, 5], 2)]
    assert told == [["a", "b", "a bc", "b cd"], ["c", "long", "c de"]]


def test_the_price_is_of_pairs_and_a_certified_row_that_one_width_does_not_say_is_an_error():
    rows = [
        ROW | {"id": "a", "proof": "greedy", "steps": 10, "positions": 80, "is_certified": False, "said": {}},
        ROW | {"id": "a", "proof": "beam", "steps": 15, "positions": 120, "is_certified": True, "said": {"hf-4": True}},
        ROW | {"id": "b", "proof": "greedy", "steps": 99, "positions": 999, "is_certified": False, "said": {}},
        ROW | {"id": "b", "proof": "beam", "steps": 9, "positions": 72, "is_certified": True, "said": {"hf-4": False}}
        | {"is_done": False},
    ]  # fmt: skip
    (told,) = summary(rows)
    assert told["pairs"] == 1 and told["price"] == {"steps": 1.5, "positions": 1.5}
    assert (told["certified"], told["said"], told["certified_but_not_said"]) == (2, {"hf-4": 1}, 1)


def test_a_wave_on_the_embedded_model_is_certified_and_said_by_beams(tmp_path, capsys):
    out = tmp_path / "beams.json"
    with pytest.raises(SystemExit) as ended:
        beam_certificate.main([
            "--wave", "1", "--lengths", "5", "--tokens-per-vector", "2", "--hf", "2", "--minutes", "0.01",
            "--out", str(out),
        ])  # fmt: skip
    assert ended.value.code == 0, capsys.readouterr().out
    (record,) = json.loads(out.read_text()).values()
    told = [dict(zip(record["columns"], row, strict=True)) for row in record["rows"]]
    assert {row["proof"] for row in told} == {"greedy", "beam"}
    assert all(row["said by"] == "hf-2" for row in told if row["is_certified"])

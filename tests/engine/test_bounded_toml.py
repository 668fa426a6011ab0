"""Settings of any origin: parsed within bounds, and whatever is wrong with them is one short line."""

import subprocess
import sys

import pytest

from engine.bounded_toml import MAX_BYTES, MAX_DOTS, parse_toml
from engine.recipe import Recipe, RecipeError, load_recipe, valid_keys

SHORT = 1000

BOMBS = {
    "deep arrays": "a = " + "[" * 100_000,
    "deep tables": "a = " + "{b = " * 50_000,
    "a dotted key": ".".join("a" * 100_000) + " = 1",
    "a dotted key below a known one": "optim.lr." + ".".join("a" * 100_000) + " = 1",
    "a dotted header": f"[{'.'.join('a' * 100_000)}]",
    "a million keys": "".join(f"k{i} = 1\n" for i in range(1_000_000)),
    "digits": "seed = " + "1" * 200_000,
    "hexadecimal digits": "seed = 0x" + "f" * 200_000,
    "a long string": f"seed = '{'x' * 200_000}'",
    "ten megabytes": "#" * 10_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_one_short_line(tmp_path, bomb):
    path = tmp_path / "recipe.toml"
    path.write_text(BOMBS[bomb])
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert len(str(error.value)) < SHORT and "\n" not in str(error.value)


def test_what_the_bounds_let_through_is_parsed_in_little_memory():
    """The worst of all files: every line as dotted as may be, none of them a table of its own."""
    line = ".".join(["a{n}"] + ["b"] * MAX_DOTS) + " = 1\n"
    program = (
        "from pathlib import Path; from engine.bounded_toml import MAX_BYTES, parse_toml\n"
        f"line = {line!r}; text = ''.join(line.format(n=n) for n in range(MAX_BYTES // (len(line) + 4)))\n"
        "parse_toml(text); peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
        "print(int(peak) // 1024)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert int(told.stdout) < 150, "MiB"


def test_the_bounds_name_themselves():
    with pytest.raises(ValueError, match="longer than 64 KiB"):
        parse_toml("#" * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match="more than 256 dots in a line"):
        parse_toml("#" + "." * (MAX_DOTS + 1))
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml("a = " + "[" * 5000)
    assert parse_toml("#" + "." * MAX_DOTS + "\na.b = [[1]]") == {"a": {"b": [[1]]}}


ABSURD = ("nan", "inf", "-inf", "1" + "0" * 400, "0x" + "f" * 9000, "[" * 9000, "{a.b.c=1}")


@pytest.mark.parametrize("key", valid_keys())
def test_no_setting_takes_a_number_that_is_none_or_absurd(key):
    for value in ABSURD:
        with pytest.raises(RecipeError) as error:
            load_recipe(overrides=[f"{key}={value}"])
        assert key in str(error.value) and len(str(error.value)) < SHORT


@pytest.mark.parametrize(("key", "value"), [("start", "nan"), ("end", "inf"), ("num_steps", "1" + "0" * 400)])
def test_no_schedule_takes_them_either(key, value):
    schedule = {"start": "1", "end": "1", key: value}
    told = ", ".join(f"{name}={number}" for name, number in schedule.items())
    with pytest.raises(RecipeError, match=rf"^loss\.weight\.{key} = "):
        load_recipe(overrides=[f"loss.weight={{kind='linear', {told}}}"])


@pytest.mark.parametrize(
    "told",
    ["__class__=1", "__proto__.a=1", "optim.__dict__=1", "../seed=1", "..=1", "a\0b=1", "a.b." * 9000 + "c=1",
     "optim.lr" + ".a" * 9000 + "=1", "stages.0.until=1", "stages.set.optim.lr=1", "seed=1\nattempts=3"],
    ids=lambda told: ascii(told[:20]),
)  # fmt: skip
def test_a_hostile_override_is_refused(told):
    with pytest.raises(RecipeError):
        load_recipe(overrides=[told])


def test_an_override_sets_one_key_and_no_other():
    assert load_recipe(overrides=["seed=3 # a comment"]) == Recipe(seed=3)
    with pytest.raises(RecipeError, match="seed = '3"):
        load_recipe(overrides=["seed=3\nattempts=7"])

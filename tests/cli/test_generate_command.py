"""``longwave generate``: text in, text out; tokens in, tokens out; and what a user may do wrong."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from longwave.cli import main
from longwave.models import BackboneConfig, LanguageModel, LanguageModelConfig

WORDS = ["the", "state", "of", "a", "model", "is", "small", "é"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of eight words, and its tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    torch.manual_seed(0)
    backbone = BackboneConfig(d_model=8, n_layers=2, mixer="Mamba", norm="rms")
    config = LanguageModelConfig(vocab_size=len(WORDS), backbone=backbone)
    folder = LanguageModel(config).save(tmp_path_factory.mktemp("model"))
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="a"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_text_is_continued(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["generate", str(folder), "--max-new-tokens", "6", "--temperature", "0"]
    assert main([*asked, "--prompt", "the state of"]) == 0
    expected = LanguageModel.from_pretrained(folder).generate(torch.tensor([[0, 1, 2]]), max_new_tokens=6)[0].tolist()
    assert capsys.readouterr().out == " ".join(WORDS[token] for token in expected) + "\n"
    assert main([*asked, "--ids", "[0, 1, 2]"]) == 0
    assert capsys.readouterr().out == " ".join(map(str, expected)) + "\n"


def test_the_same_seed_gives_the_same_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["generate", str(folder), "--prompt", "a model", "--top_k", "5", "--top_p", "0.9", "--temperature", "1.5"]
    texts = []
    for seed in ("3", "3", "4"):
        assert main([*asked, "--seed", seed, "--dtype", "float64"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


MISTAKES = {
    "generate": (2, "folder"),
    "generate HERE": (2, "one of --prompt and --ids is required"),
    "generate HERE --prompt the --ids [1]": (2, "one of --prompt and --ids is required"),
    "generate HERE --prompt the --temprature 1": (2, "did you mean --temperature?"),
    "generate HERE --ids [a]": (2, "ids"),
    "generate HERE --ids [1] --dtype int8": (2, "dtype"),
    "generate HERE --ids [8]": (1, "vocab_size − 1 = 7, got 8 to 8"),
    "generate HERE --ids []": (1, "at least one token"),
    "generate HERE --ids [1] --max_new_tokens 0": (1, "max_new_tokens=0"),
    "generate HERE --ids [1] --top_p 2": (1, "top_p=2.0"),
    "generate HERE --ids [1] --temperature -1": (1, "temperature=-1.0"),
    "generate HERE/none --ids [1]": (1, "none is not a folder"),
    "generate BARE --prompt the": (1, "no tokenizer.json: copy it .* or give the prompt as --ids"),
    "generate BARE --ids [1]": (1, "unknown model_type 'jamba'"),
    "generate CUT --prompt the": (1, "tokenizer.json is damaged"),
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_each_mistake_has_one_line_and_a_status(
    typed: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], unchecked: None
) -> None:
    status, message = MISTAKES[typed]
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text(json.dumps({"model_type": "jamba"}))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "tokenizer.json").write_text("{")
    places = {"HERE": str(folder), "BARE": str(tmp_path / "bare"), "CUT": str(tmp_path / "cut")}
    words = [re.sub("HERE|BARE|CUT", lambda found: places[found[0]], word) for word in typed.split()]
    try:
        found = main(words)
    except SystemExit as left:
        found = left.code
    said = capsys.readouterr()
    assert (found, said.out) == (status, "")
    assert said.err.count("\n") == 1
    assert re.search(message, said.err)


def test_without_tokenizers_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert main(["generate", str(folder), "--prompt", "the"]) == 1
    assert "pip install 'longwave[hub]'" in capsys.readouterr().err
    assert main(["generate", str(folder), "--ids", "[0]"]) == 0

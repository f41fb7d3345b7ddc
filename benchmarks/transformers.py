"""Mamba and Mamba-2 of transformers, 24 layers of 768 channels, with and without ``longwave.compat.transformers()``.

python -m benchmarks.transformers
"""

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from benchmarks import measure, peers
from longwave import compat

SIZES = {"vocab_size": 50280, "hidden_size": 768, "num_hidden_layers": 24}
MODELS: dict[str, dict[str, Any]] = {
    "Mamba": {"state_size": 16},
    "Mamba2": {"num_heads": 24, "head_dim": 64, "state_size": 128, "n_groups": 1},
}
PROMPT, TRAINED, GENERATED = 512, 256, 32
FLOOR = "its matrix products alone"

FLOORS = (
    "A ratio below 1 says which part of the time the model's matrix products alone are, by our operation: what plain "
    "transformers takes, over that, is the most that a ratio could be in float32."
)


def model_of(name: str) -> Any:
    library = importlib.import_module("transformers")  # this module has its name
    torch.manual_seed(0)
    config = getattr(library, f"{name}Config")(**SIZES, **MODELS[name])
    return getattr(library, f"{name}ForCausalLM")(config)


def engaged(function: Callable[[], Any]) -> Callable[[], Any]:
    def call() -> Any:
        with compat.transformers():
            return function()

    return call


def versus(what: str, function: Callable[[], Any], pairs: int) -> measure.Row:
    return measure.compare(what, engaged(function), "plain transformers", function, pairs=pairs)


def rows_of(name: str, trainings: int) -> list[measure.Row]:
    model, x = model_of(name), torch.randint(SIZES["vocab_size"], (1, PROMPT))
    options = {"max_new_tokens": GENERATED, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}

    @torch.no_grad()
    def prefill() -> None:
        model.eval()(x)

    def train() -> None:
        model.train().zero_grad()
        model(x[:, :TRAINED], labels=x[:, :TRAINED]).loss.backward()

    def decode() -> None:
        model.eval().generate(x[:, :1], **options)

    decoding = versus(f"{name}, generate {GENERATED} tokens", decode, 3)
    rates = [f"{1e3 * GENERATED / ms:.1f}" for ms in (decoding.ours_ms, decoding.peer_ms)]
    prompt, step = f"{name}, prefill of {PROMPT} tokens", f"{name}, forward and backward of {TRAINED} tokens"
    return [
        versus(prompt, prefill, 3),
        measure.compare(prompt, engaged(prefill), FLOOR, peers.products(model, PROMPT, False), pairs=3),
        versus(step, train, trainings),
        measure.compare(step, engaged(train), FLOOR, peers.products(model, TRAINED, True), pairs=3),
        replace(decoding, note=f"{rates[0]} and {rates[1]} tokens/s {decoding.note}"),
    ]


def main() -> None:
    torch.set_num_threads(2)
    rows = rows_of("Mamba2", trainings=3) + rows_of("Mamba", trainings=1)
    version = importlib.import_module("transformers").__version__
    about = f"transformers {version}, float32, a batch of one, vocabulary 50,280."
    measure.write("transformers", rows, (about, FLOORS))


if __name__ == "__main__":
    measure.command(main)

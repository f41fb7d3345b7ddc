"""The shortest command line that stands for some settings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from longwave.cli.settings import recipe_parser
from longwave.recipes import load_presets, load_recipe

__all__ = ["command_line"]


def command_line(settings: Mapping[str, Any]) -> str:
    """What to call ``longwave`` with for the settings in a run's config.yaml, seed and folder aside.

    Args:
        settings: those of config.yaml, every one of them.

    Returns:
        ``longwave train RECIPE`` and an option for each setting that is not the default.
    """
    name = settings["recipe"]
    parser = recipe_parser(load_recipe(name), prog=f"longwave train {name}")
    given = _flat({key: value for key, value in settings.items() if key not in ("recipe", "seed")})
    presets = load_presets(name)
    if presets is not None:
        chosen = parser.instantiate(parser.parse_object({"data": settings["data"]}))
        parser.set_defaults(dict(presets(chosen.data, settings["model"]["mixer"])))
    defaults = parser.get_defaults()
    words = ["longwave", "train", name]
    for option, value in given.items():
        if option == "model.mixer_options":
            words += _mixer_words(value, defaults.get(option))
        elif option in defaults and value != _plain(defaults[option]):  # the rest no option decides, but the recipe
            words += [f"--{option}", _word(value)]
    return shlex.join(words)


def _mixer_words(options: Mapping[str, Any], default: Mapping[str, Any]) -> list[str]:
    if not default.keys() <= options.keys():  # an option cannot be taken back one by one
        return ["--model.mixer_options", _word(options)]
    changed = {name: value for name, value in options.items() if name not in default or value != default[name]}
    return [word for name, value in changed.items() for word in (f"--model.mixer.{name}", _word(value))]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> Any:
    """A default as config.yaml has it: a dataclass in a dictionary as its fields, a tuple as a list."""
    if isinstance(value, Namespace):
        return dict(vars(value.init_args))
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the names of their options: those of a dataclass are nested one deep."""
    flat = {}
    for name, value in settings.items():
        nested = value if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name}.{field}".rstrip("."): item for field, item in nested.items()}
    return flat

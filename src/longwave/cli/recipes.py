"""``longwave recipes``: what there is to train, and the papers' settings for it."""

from __future__ import annotations

from longwave.cli.parser import Parser
from longwave.recipes import RECIPES
from longwave.recipes.papers import PRESETS, Preset

__all__ = ["run"]


def run(words: list[str]) -> None:
    """Print each recipe with a line on what it does, and each preset with its model; or all of one preset."""
    parser = Parser(prog="longwave recipes", description="List the recipes, and the presets from papers.")
    parser.add_argument("--preset", metavar="NAME", help="show the settings of one preset, and where they come from")
    asked = parser.parse_args(words)
    if asked.preset is None:
        _list()
    else:
        from longwave.layers.options import choose

        _show(asked.preset, choose("preset", asked.preset, PRESETS))


def _list() -> None:
    from rich import print as show
    from rich.table import Table

    recipes, presets = Table("recipe", "what it does"), Table("preset", "recipe", "model", "epochs", "batch")
    for name, text in RECIPES.items():
        recipes.add_row(name, text)
    for name, preset in PRESETS.items():
        model, trainer = preset.model, preset.trainer
        size = f"{model['mixer']} {model['n_layers']} × {model['d_model']}"
        presets.add_row(name, preset.recipe, size, str(trainer["epochs"]), str(trainer["batch_size"]))
    show(recipes)
    show("Run one: longwave train RECIPE; see its settings: longwave train RECIPE --help")
    show(presets)
    show("Take a paper's settings: longwave train RECIPE --preset NAME; see them: longwave recipes --preset NAME")


def _show(name: str, preset: Preset) -> None:
    """Print a preset's source, its settings as options, what differs from the paper, and the backbone's size."""
    import json

    from longwave.models import Backbone, BackboneConfig

    backbone = Backbone(BackboneConfig(**preset.model))
    print(f"{name}: longwave train {preset.recipe} --preset {name}")
    print(f"from: {preset.source}")
    print(f"parameters of the backbone: {sum(parameter.numel() for parameter in backbone.parameters()):,}")
    for deviation in preset.deviations:
        print(f"otherwise than there: {deviation}")
    for option, value in preset.options().items():
        print(f"  --{option} {value if isinstance(value, str) else json.dumps(value)}")

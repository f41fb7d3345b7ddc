"""Models by name: read back whichever a folder holds."""

from collections.abc import Mapping
from types import MappingProxyType

from longwave.errors import CheckpointError, ConfigError
from longwave.layers.options import choose
from longwave.models import checkpoint
from longwave.models.heads import Classifier, Regressor, SequenceModel
from longwave.models.language import LanguageModel
from longwave.models.model import Model

# the name in config.json -> model
MODELS: Mapping[str, type[Model]] = MappingProxyType(
    {model.__name__: model for model in (Classifier, Regressor, SequenceModel, LanguageModel)}
)


def load(folder: checkpoint.Folder) -> Model:
    """Read the model that a folder holds: the class that its config.json names, in the dtype in which it was saved.

    Args:
        folder: what a model's ``save`` wrote.

    Returns:
        The model, on the CPU and in training mode, as a new one would be.

    Raises:
        CheckpointError: a file is missing or damaged, the model or an option in config.json is unknown, or a key in
            model.safetensors is missing, unknown or misshapen.
    """
    name, _ = checkpoint.read_config(folder)
    try:
        model = choose("model", name, MODELS)
    except ConfigError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    return model.load(folder)

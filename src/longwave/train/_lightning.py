"""Lightning and torchmetrics, or the error that names the extra which brings them."""

from longwave.errors import MissingExtraError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
    from lightning.pytorch.callbacks import RichProgressBar
    from torchmetrics.classification import MulticlassAccuracy
except ModuleNotFoundError as error:
    raise MissingExtraError(f"training needs {error.name}: pip install 'longwave[train]'") from error

__all__ = ["Callback", "LightningModule", "MulticlassAccuracy", "RichProgressBar", "Trainer", "seed_everything"]

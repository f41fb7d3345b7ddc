"""Lightning and TensorBoard's writer, or the error that names the extra which brings them."""

from longwave.errors import MissingExtraError

try:
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import Checkpoint, RichProgressBar
    from lightning.pytorch.plugins import TorchCheckpointIO
    from torch.utils.tensorboard.writer import SummaryWriter
except ModuleNotFoundError as error:
    raise MissingExtraError(f"training needs {error.name}: pip install 'longwave[train]'") from error

__all__ = [
    "Callback",
    "Checkpoint",
    "LightningModule",
    "MisconfigurationException",
    "RichProgressBar",
    "SummaryWriter",
    "TorchCheckpointIO",
    "Trainer",
]

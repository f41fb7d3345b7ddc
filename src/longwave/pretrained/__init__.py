"""Published checkpoints: files that are read as tensors alone, and the formats of those who publish."""

from longwave.pretrained.load import Published, locate, read, write

__all__ = ["Published", "locate", "read", "write"]

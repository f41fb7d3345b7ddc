"""mamba_ssm, causal_conv1d and transformers on every machine, over longwave's operations.

``longwave.compat.install()``, before anything imports the first two, or ``python -m longwave.compat SCRIPT``: their
names, signatures and state dicts. ``longwave.compat.transformers()``: the models of an installed transformers.
"""

from longwave.compat.huggingface import Engagement, Report, transformers
from longwave.compat.importing import UnsupportedImport, UnsupportedName, install, uninstall

__all__ = ["Engagement", "Report", "UnsupportedImport", "UnsupportedName", "install", "transformers", "uninstall"]

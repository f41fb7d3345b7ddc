"""mamba_ssm and causal_conv1d on every machine: their names, signatures and state dicts, over longwave's operations.

``longwave.compat.install()``, before anything imports them, or ``python -m longwave.compat SCRIPT``.
"""

from longwave.compat.importing import UnsupportedImport, UnsupportedName, install, uninstall

__all__ = ["UnsupportedImport", "UnsupportedName", "install", "uninstall"]

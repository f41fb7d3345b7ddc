"""``python -m longwave.compat SCRIPT ARGS...``: run a script, or with -m a module, for which longwave is mamba_ssm."""

import argparse
import os
import runpy
import sys

from longwave.compat import install
from longwave.errors import ConfigError


def main(arguments: list[str]) -> None:
    """Install, and run what the arguments name, as python itself would.

    Args:
        arguments: of the command line, without the program's name.
    """
    parser = argparse.ArgumentParser(
        prog="python -m longwave.compat",
        description="Run a program for which mamba_ssm and causal_conv1d are longwave's.",
        usage="%(prog)s [-h] [--replace] (SCRIPT | -m MODULE) ...",
    )
    parser.add_argument("--replace", action="store_true", help="also where the real packages are installed")
    parser.add_argument("-m", dest="module", action="store_true", help="run a module, as python -m does")
    parser.add_argument("program", metavar="SCRIPT", help="the script, or the module's name")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    given = parser.parse_args(arguments)
    try:
        install(replace=given.replace)
    except ConfigError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    sys.argv = [given.program, *given.arguments]
    if given.module:
        runpy.run_module(given.program, run_name="__main__", alter_sys=True)
        return
    if not os.path.exists(given.program):
        parser.exit(2, f"{parser.prog}: can't open {given.program}: no such file\n")
    if os.path.isfile(given.program) and not sys.flags.safe_path:  # else -m has put the current folder there
        sys.path[0] = os.path.dirname(os.path.realpath(given.program))
    runpy.run_path(given.program, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])

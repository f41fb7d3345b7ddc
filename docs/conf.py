"""How Sphinx builds these pages: `make docs`."""

import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # docstrings.py, an extension

logging.getLogger("traitlets").setLevel(logging.WARNING)  # a line for every page that is run

project = "longwave"
author = "The longwave developers"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings"]
exclude_patterns = ["_build", "runs"]

# Every build runs the code of every page: what a page shows is what this version of the library does.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 2

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# No other project's inventory can be read while these pages are built: their names stay plain text.
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|jaxtyping|numpy|scipy|matplotlib|collections|pathlib|os|abc|typing)\..*"),
    (r"py:.*", r"(Bool|Complex|Float|Inexact|Int|Tensor|RuntimeWarning|dict\[str)"),
    (r"py:.*", r"longwave\.models\.(base|model)\.(Config|Self)|Settings"),  # type variables, and an alias
]

smartquotes_action = "D"  # dashes alone: the prime of x' is no quotation mark

html_theme = "furo"
html_title = "longwave"
html_show_sphinx = False
html_copy_source = False
# make docs puts this file among the static ones, so the pages need no network.
mathjax_path = "tex-svg-full.js"
mathjax3_config = {"options": {"enableMenu": False}}  # its menu offers what only a network has

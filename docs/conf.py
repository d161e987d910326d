"""How the documentation is built; see the target ``docs`` of the Makefile."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, str(_ROOT))

project = "kmm"
author = "the kmm developers"
release = version = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser", "docs._ext.extension"]
exclude_patterns = ["_build"]
nitpicky = True
smartquotes = False  # four dots are four pages
myst_heading_anchors = 3

kmm_kernel = os.environ.get("KERNEL", "")
"""A kernel tree of the reader's, whose C is set beside the port; nothing of it is kept."""

html_theme = "furo"
pygments_style = "default"
html_title = f"kmm {release}" + (" with local kernel text" if kmm_kernel else "")
html_static_path = ["_static"]
html_css_files = ["kmm.css"]
html_copy_source = False
html_show_copyright = False
html_last_updated_fmt = None

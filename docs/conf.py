"""The documentation site: `make docs` builds it into build/docs, and every warning is an error."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import django  # noqa: E402 (the extensions' folder comes first)
from django.conf import settings  # noqa: E402
from pygments.lexers.special import TextLexer  # noqa: E402 (the extensions' folder comes first)
from sphinx.highlighting import lexers  # noqa: E402

from devnest import __version__  # noqa: E402 (the extensions' folder comes first)

# The classes of devnest.contrib.django can be imported in a Django project only.
settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"])
django.setup()
lexers["haproxy"] = TextLexer()  # Pygments has none of its own

project = "DevNest"
copyright = "the DevNest authors"  # noqa: A001 (Sphinx's name)
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_line",
    "docstrings",
    "http_api",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = f"DevNest {release}"
html_static_path = ["_static"]
html_copy_source = False

# Markdown: a heading of level 1 to 4 can be linked as GitHub does it (`page.md#heading`).
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]

# What docstrings mention is linked where it is DevNest's and documented; other projects' pages are
# not fetched.
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a field may be described in its class and by itself
napoleon_use_rtype = False
default_role = "code"
pygments_style = "friendly"
pygments_dark_style = "monokai"

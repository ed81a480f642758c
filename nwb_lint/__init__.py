"""From an NWB recording to a fitted low-rank recurrent network, and back into NWB.

The public names are listed in ``__init__.pyi``; each is imported when it is first used.
"""

import sys as _sys

import lazy_loader as _lazy

__version__ = "0.1.0"

_imported, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
_RENAMED = {"canonicalise": "canonicalize"}


def __getattr__(name: str) -> object:
    """Import a public name. An earlier name is an error that names the new one."""
    if name in _RENAMED:
        raise AttributeError(f"nwb_lint has no {name}. It is called {_RENAMED[name]} now. Use {_RENAMED[name]}.")
    return _imported(name)


if "IPython" in _sys.modules:  # Jupyter may run
    from nwb_lint.reports.notebook import register as _register

    _register()

"""The service as `bentoml build` and `bentoml serve` load it, from a checkout or a bento's archive.

Neither has to be installed for it: the folders with our packages are put on the path. `bandstand
serve`, which needs no checkout, loads `bandstand_bentos.process` itself.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
for _folder in (_ROOT, _ROOT / "clients", _ROOT / "bentos"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from bandstand_bentos.process import Bandstand  # noqa: E402 (the path comes first)

__all__ = ["Bandstand"]

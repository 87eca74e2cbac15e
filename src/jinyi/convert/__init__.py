"""Foreign models brought in and ours taken out: the one room that opens pickles, and with `hub` a connection.

`convert` recognises a source (`sources.py`: safetensors, PyTorch weights by `pickles.py` and `unpickle.py`,
TensorFlow checkpoints by `tensorflow/`), changes heads if asked to (`heads.py`), writes a model folder and compares
both (`parity.py`, `account.py`).
"""

from __future__ import annotations

from jinyi.convert.conversion import Conversion, convert
from jinyi.convert.parity import Parity

__all__ = ["Conversion", "Parity", "convert"]

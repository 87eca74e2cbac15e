"""Average the encoders of two checkpoints of one line of training (Wortsman et al. 2022, model soups).

python recipes/tiny/average.py FIRST.pt SECOND.pt SHARE OUTPUT.pt

SHARE is that of the second. Everything but the encoder is the second's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch


def main() -> None:
    first, second, output = (Path(sys.argv[i]) for i in (1, 2, 4))
    share = float(sys.argv[3])
    one, two = (torch.load(path, weights_only=True) for path in (first, second))
    two["encoder"] = {
        name: torch.lerp(tensor, two["encoder"][name], share) for name, tensor in one["encoder"].items()
    }
    settings = {"first": first.name, "second": second.name, "share": share}
    entry = {"recipe": "recipes/tiny/average.py", "settings": settings}
    two["training"] = {"runs": [*two["training"]["runs"], entry]}
    torch.save(two, output)


if __name__ == "__main__":
    main()

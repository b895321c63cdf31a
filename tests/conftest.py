"""What all tests share: the modules beside them, importable by name."""

import sys
from pathlib import Path

for folder in ("", "api", "contract", "fault", "life"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

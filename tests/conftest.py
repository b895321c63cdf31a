"""What all tests share: the modules beside them, importable by name, and a PostgreSQL."""

import sys
from pathlib import Path

for folder in ("", "api", "contract", "end_to_end", "fault", "life"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

from postgres import postgres_url  # noqa: E402, F401 (a fixture)

import os
from pathlib import Path

FOLDER = Path(os.environ.get("RVM_REFERENCE") or Path(__file__).parent / "data")

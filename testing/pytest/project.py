"""Where the project and its test host are."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# scripts/test.sh has built it in another profile.
TESTHOST = os.environ.get("PVE_TESTHOST", str(PROJECT / "target/release/pve-testhost"))

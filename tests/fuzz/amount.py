"""How much is fuzzed: little in every run of the suite, a hundred times as much by ``make fuzz``."""

import os

FACTOR = int(os.environ.get("PACS_FUZZ_FACTOR", "1"))

"""How many inputs each fuzz test tries: some in a normal run, as many as you like with ``UPSCORE_FUZZ_EXAMPLES``."""

import os

EXAMPLES = int(os.environ.get("UPSCORE_FUZZ_EXAMPLES", "50"))

"""How many generated inputs of a kind are tried."""

import os

EXAMPLES = int(os.environ.get("UPSCORE_FUZZ_EXAMPLES", "50"))

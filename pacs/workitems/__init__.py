"""Work items of the Unified Worklist (PS3.4 CC)."""

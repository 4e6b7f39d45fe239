"""What is known to be missing, and what was never promised.

The checks of both run with the others. What a known gap shows is counted, but it is no
violation: whoever builds what is missing takes its line out of the table, and the check
counts. What is only observed says what it costs that something is not promised.
"""

from __future__ import annotations

KNOWN_GAPS = {
    "phantom": "a range that was planned to be trained, and that nobody trained or "
    "could carry over, hides the older values that somebody has, as long as one that "
    "may have newer ones is silent and not yet evicted",
}

OBSERVED = {
    "lineage": "what some peers fused by another plan than most is given up when they "
    "take over the others' table of homes",
    "two fusions": "a reducer that is silent to some has fused a range, and its backup "
    "fuses it again for them: one version, but perhaps other contributions",
}
"""One peer that fuses a range twice breaks a promise: the check ``fused twice``."""

"""What is known to be missing: checks that fail because something is not built yet.

They run with the others, and what they find is counted, but it is no violation. Whoever
builds what is missing takes its line out of the table, and the check counts.
"""

from __future__ import annotations

KNOWN_GAPS = {
    "phantom": "a range that was planned to be trained, and that nobody trained or "
    "could carry over, counts as new in the table of homes: it hides the older values "
    "that somebody has",
    "lineage": "what some peers fused by another plan than most is given up when they "
    "take over the others' table of homes",
    "two fusions": "a reducer that is silent to some has fused a range, and its backup "
    "fuses it again for them: one version, but perhaps other contributions",
    "replication": "who gave up a range that it was to keep counts as a copy in the "
    "table of homes, so nobody makes another",
}

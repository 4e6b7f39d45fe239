"""All tasks and arms by name, and sets of arms that are run together."""

from __future__ import annotations

import delay_arms
import depth_arms
import width_arms
import wire_arms

TASKS = {**width_arms.TASKS, **depth_arms.TASKS}
ARMS = {**width_arms.ARMS, **depth_arms.ARMS, **wire_arms.ARMS, **delay_arms.ARMS}
SETS = {**width_arms.SETS, **depth_arms.SETS}

"""What sees every operator that torch dispatches, without torch's compiler."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Uncompiled(TorchDispatchMode):
    """A mode inside which nothing is compiled."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: that alone would load the compiler, which takes seconds."""
        return False

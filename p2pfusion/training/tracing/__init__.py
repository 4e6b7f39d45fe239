"""An ordinary ``nn.Module`` becomes a model of the swarm, without code for its sake.

``trace`` finds the layout, and what makes dense modules of any widths; the page is
``docs/models.md``, the reasons are in ``docs/decisions/0017-traced-models.md``.
"""

from p2pfusion.training.tracing.tracing import Trace, trace

__all__ = ["Trace", "trace"]

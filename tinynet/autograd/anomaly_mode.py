"""torch.autograd.detect_anomaly: where a NaN was born, and arrays changed behind the tape's back."""

from __future__ import annotations

from ..tape import anomaly


class set_detect_anomaly:
    """Switches anomaly mode of this thread at once; as a context manager, until the end of the block."""

    def __init__(self, mode: bool, check_nan: bool = True):
        self._before = (anomaly.state.enabled, anomaly.state.check_nan)
        anomaly.state.enabled, anomaly.state.check_nan = bool(mode), bool(check_nan)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        anomaly.state.enabled, anomaly.state.check_nan = self._before


class detect_anomaly(set_detect_anomaly):
    """Inside, backward names the operation that returned a NaN and shows its forward call; every saved array
    is fingerprinted, so that a change through a NumPy alias is caught as well. Slow: for debugging.
    """

    def __init__(self, check_nan: bool = True):
        super().__init__(True, check_nan)

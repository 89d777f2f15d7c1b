"""How properties are tested here: as long as it takes, also on a machine that is busy."""

from hypothesis import HealthCheck, settings

__all__ = ["patient"]

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

"""All cores of one machine: worker processes under a supervisor (ADR 0017)."""

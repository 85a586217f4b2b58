"""The data check: what is wrong with the images of a source, found once, before anything is learnt from them."""

from headstart.checks.findings import KINDS, CheckReport, Finding, summary
from headstart.checks.run import run

__all__ = ["KINDS", "CheckReport", "Finding", "run", "summary"]

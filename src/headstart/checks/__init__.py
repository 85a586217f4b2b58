"""The data check: what is wrong with the images of a source, found once, before anything is learnt from them."""

from headstart.checks.findings import CheckReport, Finding, summary
from headstart.checks.kinds import CHECKS, checks_of
from headstart.checks.whole import run

__all__ = ["CHECKS", "CheckReport", "Finding", "checks_of", "run", "summary"]

"""Threads inside of matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import threadpool_limits


def one_blas_thread() -> threadpool_limits:
    """A context in which matrix products run on one thread each.

    Several wait for each other, and where another program runs they wait long: on two cores 3 s became 14 to 68 s.
    """
    from threadpoolctl import threadpool_limits  # sets a variable of the environment when it is imported

    return threadpool_limits(1, user_api="blas")

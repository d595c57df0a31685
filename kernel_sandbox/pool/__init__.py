"""A pool of sessions: some are held ready, each is handed out under an identifier, and there is an end to all of them.

    pool_metrics  counters and histograms of what it did
    ready_sessions  the sessions that wait for somebody, and those who wait for a session
    pooled     a session that was handed out: its users' side and the pool's
    stages     what such a session is at, and what may follow
    saving     where the notebooks of its sessions are kept
    session_pool  SessionPool: identifiers, expiry, the end

Everything runs in the one event loop in which the pool was opened.
"""

from kernel_sandbox.errors import PoolClosed as PoolClosed
from kernel_sandbox.errors import PoolFull as PoolFull
from kernel_sandbox.errors import SessionNotFound as SessionNotFound
from kernel_sandbox.pool.pool_metrics import Histogram as Histogram
from kernel_sandbox.pool.pool_metrics import PoolMetrics as PoolMetrics
from kernel_sandbox.pool.pooled import PooledSession as PooledSession
from kernel_sandbox.pool.session_pool import SessionPool as SessionPool
from kernel_sandbox.spec.pool import PoolSettings as PoolSettings

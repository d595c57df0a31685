"""What a sandbox, or a pool of sessions, may do and use: frozen values, and the only place of their defaults. Pure.

values   SandboxSpec, Limits, Mount
pool     PoolSettings
forms    whether what a caller gave has the right form, and how to say what that is
"""

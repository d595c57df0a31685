"""What a sandbox, or a pool of sessions, may do and use: frozen values, and the only place of their defaults. Pure.

values     SandboxSpec, Limits, Mount
pool       PoolSettings
languages  what kernels are written for: names, files, images
forms      whether what a caller gave has the right form, and how to say what that is
"""

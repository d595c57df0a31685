"""The HTTP service: sessions of a pool, for clients that name them by an identifier."""

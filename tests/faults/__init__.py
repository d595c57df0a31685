"""Things that break around a session: its host process, its engine, its sandbox, disks, descriptors, clocks.

Each test injects one fault and looks from outside at how soon it was noticed, by which name, and at what was left.
"""

"""What runs in the guest, in the clone of HEAD: `python -m tests.guest.inside.NAME`, which tells figures and faults."""

"""Variables in and out of a kernel, by value: `session.get`, `session.put`, and the magics' -i and -o.

session/carried_variables.py asks the kernel, through a file under /mnt/data.

exchange      one transfer, in the kernel: read as text
packing       arrays and tables as bytes; runs at BOTH ends
unpacking     the same from their bytes; runs at BOTH ends
plain         numbers, texts, dates, and lists and dicts of them as JSON; runs at BOTH ends
"""

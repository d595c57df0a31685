"""The programs that run inside the sandbox. The host reads them as text and imports none of them.

    boot.py         the first lines: reads the rest from standard input
    main.py         PID 1: the stream to the host, and the operations that come over it
    kernels.py      PID 1's kernels: start, reap, stop without survivors
    last_words.py   what a kernel wrote to standard error last, kept for the message about its end
    zygote.py       a process that has imported ipykernel, and forks kernels
    application.py  the kernel's application and shell, made in the zygote before it imports anything of the image
    kernel.py       what a forked kernel does before and after it binds its sockets
    leaving.py      how a kernel ends, and copies of it that a cell forked
    files.py        list, read, write, delete under /mnt/data

All of it is standard library, for Python 3.9 or newer, but for application.py and kernel.py: ipykernel's side.
"""

"""The programs that run inside a sandbox. The host reads them as text; it imports mux, accounts and variables only.

    boot            the first lines: reads the rest from standard input
    confinement     bubblewrap's first program: makes root directory, devices and writable places, gives privileges up
    keeper          makes the walls of a template, on the host; `template` imports an image's modules behind them,
                    and `offspring` is a sandbox that it forks
    main            PID 1: the stream to the host, and the operations that come over it
    mux             many channels over that stream, at both ends
    inspection      what PID 1 sees of its walls; `allowance` what a process may take
    watch           what the host's kernel charges to nobody, counted
    accounts        the names in a sandbox, as files of /etc, at both ends
    file_operations  list, read, write, delete under /mnt/data; `full_places` what is said where a disk is full
    missing_packages  what is said where a package is missing, or is to be installed; `error_notes` shows both,
                    and `installers` reads what a command would install
    kernels         PID 1's kernels: start, reap, stop without `survivors`; `fresh_places` what a restart empties
    kernelspecs     which kernels an image has beside Python's; `loopback` ports for those that know no unix sockets
    copies          PID 1's part in copying a live kernel; `copying` the kernel's
    last_words      what a kernel wrote to standard error last
    common_memory   where PID 1 and the kernels share it, and where orders to copy stand
    randomness      random numbers seeded anew in a process that was forked
    zygote          a process that has imported ipykernel, and forks kernels
    apart           what the zygote imports reads nothing of a cell's
    archive         an image's modules in one file; `image_directories` where a kernel finds them
    application     the kernel's application and shell, made in the zygote before it imports anything of the image
    debugging       its debugger, at the first request for it
    kernel          what a forked kernel does before and after it binds its sockets
    rehearsal       a cell that a kernel runs for itself, where nobody waits for its start
    streams         what code prints and shows: in few steps, held up where the host is slow
    table_data      DataFrames as exact data; `shell` the cell magic `%%shell`
    widget_text     widgets as text that stays true, since nothing draws them
    no_network      what an error says where there is none
    leaving         how a kernel ends, and copies of it that a cell forked; `command_line` what `ps` shows of it
    loaded_libraries  whether a kernel may end at once, or a library in C has something to write then
    variables/      variables in and out, by value
    preview         describes a data file, for an agent
    packages        what an image holds, for the service
    package_fetcher  resolves and downloads packages with pip; `wheel_check` says how much they unpack to
    source_builder  builds a source archive to a wheel; `import_probe` imports what a new image was asked to hold
    debian_unpacker  unpacks Debian's packages, while an environment is made
    zip_member      writes one member of an archive to a file, while an environment is made

All but the kernel's own side (application, debugging, kernel, streams, table_data, widget_text, no_network, preview) is
standard library, for Python 3.9 or newer.
"""

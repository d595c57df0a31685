"""What of /proc, /sys and /etc tells about the host and not about the sandbox: covered in every sandbox."""

from __future__ import annotations

_FILES = """
buddyinfo cgroups cmdline config.gz consoles crypto devices diskstats execdomains interrupts iomem ioports kallsyms
kcore key-users keys kmsg kpagecgroup kpagecount kpageflags latency_stats locks misc modules mtrr pagetypeinfo
partitions sched_debug schedstat slabinfo softirqs swaps sysrq-trigger timer_list timer_stats version vmallocinfo
zoneinfo
sys/fs/aio-nr sys/fs/dentry-state sys/fs/file-nr sys/fs/inode-nr sys/fs/inode-state sys/kernel/pty/nr
sys/kernel/random/boot_id sys/kernel/random/entropy_avail
"""
PROC_FILES = tuple(_FILES.split())
"""Of the counters that live, those that programs read stay: stat, vmstat, loadavg, uptime, meminfo."""
PROC_DIRECTORIES = (
    "acpi",
    "asound",
    "bus",
    "driver",
    "fs",
    "irq",
    "pressure",
    "scsi",
    "sysvipc",
    "tty",
    "sys/fs/quota",
)
_SYS = """
block bus class dev devices/pci0000:00 devices/platform devices/pnp0 devices/software devices/system/node
devices/tracepoint devices/virtual/bdi devices/virtual/dmi devices/virtual/powercap devices/virtual/block
devices/virtual/net firmware fs/bpf fs/ext4 fs/fuse fs/pstore fs/selinux hypervisor kernel module power
"""
SYS_DIRECTORIES = tuple(_SYS.split())
"""The rest of /sys (processors, the sandbox's own control groups) is what libraries size their thread pools by."""

CONTAINER_MASKED = (
    *(f"/proc/{name}" for name in (*PROC_FILES, *PROC_DIRECTORIES)),
    *(f"/sys/{name}" for name in SYS_DIRECTORIES),
    "/etc/resolv.conf",
)
CONTAINER_READ_ONLY = ("/proc/sys",)

"""A sandboxed kernel for Jupyter's own tools.

provisioner   the only subclass of a Jupyter class; translates to `sandbox/standing`
launcher      the same kernel as a process, for front ends that run a kernelspec's argv and no provisioner
"""

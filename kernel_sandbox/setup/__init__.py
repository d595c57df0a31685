"""What makes a machine ready: images and environments are built, packages installed, kernelspecs written, all judged.

doctor                what sandboxes need of this machine, judged, with what mends it
doctor_host           what the machine gives, whichever engine starts them
capacity              whether it has what a pool's sessions may take together
steps                 what is missing, and the steps that mend it
system_packages       installs with the system's own package manager
kernelspec            makes the sandboxed kernel known to Jupyter
engine_images         an image in either engine: its state, and the build
docker_images         Docker's images: their state, and the build
image_builder         one build in the engine, step by step
debian_root           a base image without a registry
environment_builder   makes bubblewrap's environments
environment_files     copies interpreter, libraries and commands
environment_etc       the files that programs look for by name
own_debian            Debian's packages on top of a container image
debian_archive        the same in an environment, downloaded by this machine's apt
build_sandbox         where an environment's packages are unpacked and compiled
wheels                an image's packages, downloaded by the user's own pip
progress              what long work says of itself
image_request         what an image of one's own is asked to hold
own_images            images of one's own, whichever engine has them
own_bubblewrap        those of bubblewrap
own_docker            those of Docker
killed_builds         what builds that were killed have left
own_environments      new packages beside the files of another environment
own_debian            Debian's packages for a container image
image_packages        what an image holds, for models
import_check          a new image is tried in a session
pip_settings          what the user has set for pip
fetch_sandbox         where pip resolves and downloads
package_fetch         packages resolved, locked and kept
source_builds         a source archive becomes a wheel, in a session
fetch_failures        what is said where packages cannot be had
"""

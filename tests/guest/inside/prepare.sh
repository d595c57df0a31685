#!/bin/sh
# Run by recipe.py in the guest's tree, natively, as its root: what would take ten times as long in the guest itself.
# The clone of HEAD is in /srv/kernel-sandbox. What is made here needs no network later.
set -eu
export HOME=/root DEBIAN_FRONTEND=noninteractive
python3 -m venv /opt/checks
pip() { /opt/checks/bin/python -P -m pip --disable-pip-version-check --no-input "$@"; }

# Packages for `pip install .` and for the images, so that in the guest pip only unpacks.
mkdir -p /opt/wheels
cd /srv/kernel-sandbox
pip download -qq -d /opt/wheels --prefer-binary ".[all]" hatchling editables ipykernel pytest pytest-timeout hypothesis pyyaml
for lock in images/pip.txt images/python/requirements.txt images/datascience/requirements.txt; do
    pip download -qq -d /opt/wheels --no-deps --require-hashes --only-binary=:all: -r "$lock"
done
printf '[global]\nno-index = true\nfind-links = /opt/wheels\ndisable-pip-version-check = true\n' >/etc/pip.conf

# An environment for the checks. It finds the package in the clone, which is another one at every run.
pip install -qq --no-index --find-links /opt/wheels pytest pytest-timeout hypothesis pyyaml ipykernel hatchling editables
pip install -qq --no-index --find-links /opt/wheels --no-build-isolation --editable ".[all]"

# bubblewrap's images, for root and for the users.
for image in python datascience; do
    /opt/checks/bin/kernel-sandbox image build "$image" --engine bubblewrap
done
for user in ada bob; do
    useradd -m -s /bin/bash "$user"
    mkdir -p "/home/$user/.cache" "/home/$user/.ssh" /var/lib/systemd/linger
    cp -a /var/cache/kernel-sandbox "/home/$user/.cache/"
    cp /root/.ssh/authorized_keys "/home/$user/.ssh/"
    chown -R "$user:" "/home/$user"
    touch "/var/lib/systemd/linger/$user"
done
usermod -aG docker bob

echo guest >/etc/hostname
echo '127.0.0.1 localhost guest' >/etc/hosts
echo '/dev/vda / ext4 defaults,noatime 0 1' >/etc/fstab
printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\n' >/etc/systemd/network/10-user.network
systemctl -q enable systemd-networkd ssh docker
systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer systemd-networkd-wait-online.service

# What the packages' own programs would do, where nothing of them runs (environments of bubblewrap); then a smaller Java
# takes the place of Debian's, as in the container image.
. /tmp/image/smaller-java.sh
rm -rf /usr/lib/jvm /usr/share/java /etc/java-17-openjdk

# Makes /opt/java of a JDK: the modules that a kernel and its cells need, with the libraries that they load.
jdk=$(echo /usr/lib/jvm/java-17-openjdk-*)
modules=java.base,jdk.jshell,java.desktop,java.sql,java.net.http,java.logging,java.management,jdk.unsupported,java.xml
"$jdk/bin/jlink" --add-modules "$modules,jdk.zipfs,jdk.charsets" --strip-java-debug-attributes --no-man-pages --no-header-files \
    --compress=0 --output /opt/java
libraries=$(LD_LIBRARY_PATH=/opt/java/lib:/opt/java/lib/server ldd /opt/java/lib/*.so /usr/lib/*/libfontconfig.so.1 |
    sed -n 's/.*=> \(\/[^ ]*\) (0x.*/\1/p' | sort -u | grep -v -E '^/opt/|/(libc|libm|libdl|libpthread|librt|ld-linux.*)\.so')
for library in $libraries /usr/lib/*/libfontconfig.so.1; do cp -L "$library" /opt/java/lib/; done
/opt/java/bin/java -XX:+UseSerialGC -Xshare:dump >/dev/null
chmod -R a+rX,go-w /opt/java

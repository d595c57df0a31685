# What the packages' own programs would do, where nothing of them runs (environments of bubblewrap).
cp /usr/lib/R/etc/Renviron.ucf /etc/R/Renviron
for library in /usr/lib/*/blas/libblas.so.3 /usr/lib/*/lapack/liblapack.so.3; do
    ln -sf "$library" "${library%/*/*}/"
done

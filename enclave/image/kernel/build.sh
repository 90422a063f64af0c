#!/usr/bin/env bash
# Builds the VM's kernels: config and patches/ on Debian's source package of Linux, and debug.config for the one that says what
# it does.
#   enclave/image/kernel/build.sh FETCHED DIR vmlinuz [vmlinuz-debug]      # FETCHED has what inputs.sha256 names
# Nothing is installed and nothing is fetched. The compiler is the machine's; the same bytes come out wherever that is
# Debian 12's.
set -euo pipefail
(($# > 2)) || { echo "usage: $0 FETCHED DIR vmlinuz [vmlinuz-debug]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
fetched=$(cd "$1" && pwd)
folder=$(cd "$2" && pwd)
fail() { echo "$0: $*" >&2; exit 1; }
for program in gcc ld make bc patch perl xz gzip; do command -v "$program" > /dev/null || fail "wants $program"; done
# Said now, and not after the minutes that a build takes.
compiler="gcc $(/usr/bin/gcc -dumpfullversion), ld $(/usr/bin/ld --version | sed -n '1s/.* //p')"
[[ $compiler == 'gcc 12.2.0, ld 2.40' ]] || fail "wants gcc 12.2.0 and ld 2.40 as Debian 12 has them, found $compiler"
(cd "$fetched" && sha256sum --check --quiet "$here/inputs.sha256")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$work/source tools=$work/tools
mkdir "$source" "$tools"
for package in "$fetched"/{bison,flex,libelf1,libelf-dev,m4,zlib1g-dev}_*.deb; do dpkg -x "$package" "$tools"; done
dpkg --fsys-tarfile "$fetched"/linux-source-*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
    tar -xJ -C "$source" --strip-components=1
for name in "$here"/patches/*.patch; do patch --silent --batch --fuzz=0 --strip=1 --directory="$source" < "$name"; done

# Nothing of the machine's environment has a say in it, and no time, user or machine is written down.
build() {
    env --ignore-environment PATH="$tools/usr/bin:/usr/bin:/bin" LC_ALL=C TZ=UTC HOME="$work" \
        BISON_PKGDATADIR="$tools/usr/share/bison" M4="$tools/usr/bin/m4" \
        LD_LIBRARY_PATH="$tools/usr/lib/x86_64-linux-gnu" \
        KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_VERSION=1 \
        KBUILD_BUILD_USER=postern KBUILD_BUILD_HOST=postern \
        make -s -C "$source" HOSTCFLAGS="-I$tools/usr/include" HOSTLDFLAGS="-L$tools/usr/lib/x86_64-linux-gnu" "$@" \
        >> "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; fail "make ${*: -1} failed"; }
}

# The lines of fragments that decide something; of two about one option the later.
decisions() {
    sed -nE 's/^((# )?(CONFIG_\w+)[ =].*)$/\3 \1/p' "$@" |
        awk '{ name = $1; sub(/^[^ ]* /, ""); if (!(name in line)) order[n++] = name; line[name] = $0 }
            END { for (i = 0; i < n; i++) print line[order[i]] }'
}

# Kconfig leaves out what lacks something else, or has moved, and says nothing.
compare() {
    local line name lost=()
    while read -r line; do
        name=${line#\# } name=${name%%[ =]*}
        case $line in
            '# '*) ! grep -q "^$name=" "$2" || lost+=("$line") ;;
            *) grep -qxF -- "$line" "$2" || lost+=("$line") ;;
        esac
    done < "$1"
    ((${#lost[@]} == 0)) || fail "Kconfig did not take: $(printf '%s; ' "${lost[@]}")"
    ! grep -q '=m$' "$2" || fail "a module: $(grep '=m$' "$2")"
}

# What the kernel shares with the host is shared by whole pages. Nothing else may lie on them: the host could change it.
alone() {
    local shared='^(apf_reason|steal_time|kvm_apic_eoi|vmw_steal_time)$'
    local others
    others=$(awk -v shared="$shared" '
        { page = substr($1, 1, length($1) - 3); name[NR] = $3; on[NR] = page }
        $3 ~ shared { pages[page]; found++ }
        END {
            if (found != 4) print "not found: " shared
            # Those that mark an end or a beginning hold nothing.
            for (i = 1; i <= NR; i++) if (on[i] in pages && name[i] !~ shared && name[i] !~ /^__per_cpu/) print name[i]
        }' "$1")
    [[ -z $others ]] || fail "on pages that are shared with the host: $others"
}

for kernel in "${@:3}"; do
    case $kernel in
        vmlinuz) fragments=("$here/config") ;;
        vmlinuz-debug) fragments=("$here/config" "$here/debug.config") ;;
        *) fail "no kernel $kernel" ;;
    esac
    out=$work/$kernel
    mkdir "$out"
    decisions "${fragments[@]}" > "$work/fragment"
    build O="$out" KCONFIG_ALLCONFIG="$work/fragment" allnoconfig
    compare "$work/fragment" "$out/.config"
    build O="$out" -j "$(nproc)" bzImage
    alone "$out/System.map"
    cp "$out/arch/x86/boot/bzImage" "$folder/$kernel.new"
    mv "$folder/$kernel.new" "$folder/$kernel"
    rm -r "$out"
done

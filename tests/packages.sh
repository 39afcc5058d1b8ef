#!/bin/bash
# packages.sh [--print] build|test|arm|slurm ... - the Debian and Ubuntu packages Tandem is built from.
# Does nothing when all are there. Else installs them (as root), or prints the command and fails.
set -u
print=
[ "${1:-}" = --print ] && print=1 && shift
packages=
for group in "${@:-build}"; do
    case $group in
    build) packages+=" gcc make libc6-dev pkg-config openmpi-bin libopenmpi-dev libhdf5-dev"
        packages+=" libyaml-dev libjansson-dev libpcre2-dev zlib1g-dev" ;;
    test) packages+=" g++ libcmocka-dev python3 python3-h5py python3-numpy python3-jinja2 python3-jsonschema python3-pandas procps iproute2 zstd xz-utils bzip2" ;;
    arm) packages+=" gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" ;;
    slurm) packages+=" slurm-wlm munge" ;;
    *) echo "packages.sh: groups are build, test, arm and slurm, not '$group'" >&2; exit 1 ;;
    esac
done

# What the groups are for is there, however it came to be there (modules, Spack, ...).
found() {
    local ok=0 name
    case $1 in
    build)
        for name in gcc make pkg-config mpirun; do
            command -v "$name" >/dev/null || ok=1
        done
        command -v mpicc >/dev/null || pkg-config --exists ompi-c || ok=1
        pkg-config --exists hdf5-serial || pkg-config --exists hdf5 || command -v h5cc >/dev/null || ok=1
        pkg-config --exists yaml-0.1 jansson libpcre2-8 zlib || ok=1 ;;
    test)
        pkg-config --exists cmocka && command -v g++ >/dev/null && command -v pgrep >/dev/null || ok=1
        /usr/bin/python3 -c 'import h5py, numpy, jinja2, jsonschema, pandas' || python3 -c 'import h5py, numpy, jinja2, jsonschema, pandas' || ok=1 ;;
    arm) command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null || ok=1 ;;
    slurm) command -v slurmctld >/dev/null && command -v slurmd >/dev/null &&
        command -v munged >/dev/null || ok=1 ;;
    esac
    return $ok
}
missing=
for group in "${@:-build}"; do
    found "$group" 2>/dev/null || missing+=" $group"
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null; then
    cat <<END
Some libraries are missing (make info lists them), and this is not Debian or Ubuntu. As root, one of these, which also
have what the tests need; then repeat the command:
    Fedora    dnf install gcc gcc-c++ make pkgconf openmpi-devel hdf5-devel libyaml-devel jansson-devel pcre2-devel zlib-devel libcmocka-devel python3-h5py python3-jinja2 python3-jsonschema python3-pandas procps-ng
    RHEL 9    dnf install epel-release && dnf config-manager --set-enabled crb   and then the line of Fedora
    openSUSE  zypper install gcc gcc-c++ make pkgconf openmpi4-devel hdf5-devel libyaml-devel libjansson-devel pcre2-devel zlib-devel libcmocka-devel python3-h5py python3-Jinja2 python3-jsonschema python3-pandas procps
    Arch      pacman -S --needed gcc make pkgconf openmpi hdf5 libyaml jansson pcre2 zlib cmocka python-h5py python-jinja python-jsonschema python-pandas procps-ng
    conda     conda install -c conda-forge c-compiler cxx-compiler make pkg-config openmpi hdf5 libyaml jansson pcre2 zlib cmocka h5py jinja2 jsonschema pandas
On Fedora and RHEL mpicc is found after:  module load mpi/openmpi-x86_64
END
    exit 1
fi
if [ -n "$print" ] || [ "$(id -u)" != 0 ]; then
    echo "Please install what is missing, then repeat the command:"
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends$packages"
    exit 1
fi
echo "Installing$packages"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
if ! { apt-get -q update && apt-get -q install -y --no-install-recommends $packages; } >"$log" 2>&1; then
    tail -20 "$log"
    echo "apt-get failed; its last lines are above" >&2
    exit 1
fi

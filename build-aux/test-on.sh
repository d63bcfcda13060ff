#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# test-on.sh RELEASE: README's two commands, in a clone of HEAD in a bare Debian of that name.
#
# What debootstrap makes is kept in the user's cache, and so are the packages; each run starts from a
# copy. Remove the folder to begin anew.
set -eu
release=$1
cache=${3-${XDG_CACHE_HOME:-$HOME/.cache}/gaio/$release}
bare=$cache/bare
root=$cache/root

# As root, in namespaces that take the mounts and all processes along when they end.
in_the_release ()
{
  # What is no mount point cannot be made private, as a test does with /.
  mount --bind "$root" "$root"
  mount --rbind /dev "$root/dev"
  mount --rbind /sys "$root/sys"
  mount -t proc proc "$root/proc"
  mount --bind "$cache/packages" "$root/var/cache/apt/archives"
  cp /etc/resolv.conf "$root/etc/"
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
  # A mirror may lag behind.
  echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90lagging-mirror"
  # After a crash one begins anew: do not wait for the disk.
  echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
  # shellcheck disable=SC2016  # the inner shell expands it
  exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    ${http_proxy:+"http_proxy=$http_proxy"} sh -c '
      trap "exit 130" INT TERM
      cd /root/gaio
      for command in demo test; do
        ./dev $command
        echo $? >/root/$command
      done'
}

as_root ()
{
  if [ ! -d "$bare" ]; then
    rm -rf "$bare.new"
    debootstrap --variant=minbase "$release" "$bare.new"
    mv "$bare.new" "$bare"
  fi
  rm -rf --one-file-system "$root"
  cp -a "$bare" "$root"
  mkdir -p "$cache/packages/partial"
  cp -R "$cache/clone" "$root/root/gaio"
  unshare --mount --pid --fork --kill-child "$0" "$release" in "$cache"
  demo=$(cat "$root/root/demo")
  test=$(cat "$root/root/test")
  echo "$release: ./dev demo: exit status $demo, ./dev test: exit status $test"
  [ "$demo$test" = 00 ] || echo "The logs are in $root/root/gaio/build"
  [ "$demo$test" = 00 ]
}

case ${2-} in
  in) in_the_release ;;
  root) as_root ;;
  *)
    rm -rf "$cache/clone"
    mkdir -p "$cache"
    git clone --quiet --no-hardlinks . "$cache/clone"
    if [ "$(id -u)" = 0 ]; then
      exec "$0" "$release" root "$cache"
    fi
    exec sudo ${http_proxy:+"http_proxy=$http_proxy"} "$0" "$release" root "$cache"
    ;;
esac

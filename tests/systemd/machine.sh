#!/bin/bash
# Throw-away machines with systemd as PID 1, in namespaces of their own over an overlay of this machine's root, or of another
# one: no image, no container engine, and nothing of this machine is written. Needs root, systemd, util-linux and bsdutils.
#
#   machine.sh check                  says in a line why no machine can be booted here, and fails; or says nothing
#   machine.sh hold NAME [--root FOLDER] [--unified] [--install SRC:DST[:MODE]]... [--bind SRC:DST]...
#                                     boots NAME, says `up`, and ends it when standard input ends. A line `reboot` on
#                                     standard input shuts it down and boots it again, with its disk, and says `up`.
#                                     --install copies a file into it, --bind makes one visible, for reading only.
#                                     --root makes it of the system in FOLDER, as debootstrap makes one; $MACHINE_ROOT is
#                                     the one where none is named.
#   machine.sh run NAME COMMAND...    runs COMMAND as root inside
#   machine.sh console NAME           what was printed on its console
#   machine.sh network                a network for machines, a bridge in a namespace of its own: says `up` and the network's
#                                     number, and is gone when standard input ends
#   machine.sh plug NAME NUMBER ADDRESS/BITS
#                                     plugs a machine into it, with this address. A reboot of the machine unplugs it.
#   machine.sh cable NAME NUMBER up|down
#                                     what is between the two; without it nothing passes, and the machine keeps its address
#
# Machines keep their files in $MACHINES, by default /var/tmp/wqcontroller-machines, which must not be on an overlay.
# Where the controllers of cgroup v1 are in use, machines are booted with those (systemd's hybrid mode): limits that are
# not enforced there would otherwise seem to be. Nothing can be frozen then; with --unified it can, and limits do nothing.
# As in any container the boot ID in /proc is this machine's, and the same before and after a reboot of the machine.
set -u
MACHINES=${MACHINES:-/var/tmp/wqcontroller-machines}
SYSTEMD=/lib/systemd/systemd
CLEAN_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
say() { echo "machine.sh: $*" >&2; }
die() { say "$*"; exit 1; }

# ---- pids: one counts only with its start time, which is empty for a zombie
start_time() { # by the shell alone, for each command that is run inside asks for it
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  # shellcheck disable=SC2086 # what follows the name are fields, the state first; see proc_pid_stat(5)
  set -- ${stat##*) }
  case $1 in Z | X) ;; *) echo "${20}" ;; esac
}
is_alive() { # sets INIT
  INIT=
  [ -s "$DISK/pid" ] || return 1
  local pid started
  read -r pid started <"$DISK/pid"
  [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] && INIT=$pid
}

# ---- cgroups: in each hierarchy a child of our own, so that no limit of ours is escaped
own_cgroups() { # prints "controllers|folder" for each hierarchy; no controllers is v2
  local id controllers path mount
  while IFS=: read -r id controllers path; do
    [ "$path" = / ] && path=
    if [ "$id" = 0 ]; then
      mount=$(awk '$0 ~ / - cgroup2 /{print $5; exit}' /proc/self/mountinfo)
      # Where there is only v2, our own cgroup has processes in it, so its children get no controllers.
      [ "$mount" = /sys/fs/cgroup ] && path=
    else
      mount=$(awk -v wanted="${controllers#name=}" '{for (i = n = 7; n <= NF; n++) if ($n == "-") i = n}
        $(i+1) == "cgroup" {split($5, parts, "/"); if (parts[length(parts)] == wanted) {print $5; exit}}' /proc/self/mountinfo)
    fi
    [ -n "$mount" ] && echo "$controllers|$mount$path"
  done </proc/self/cgroup
}
make_cgroups() {
  local controllers folder one
  : >"$DISK/cgroups"
  while IFS='|' read -r controllers folder; do
    if [ -z "$controllers" ]; then
      for one in $(cat "$folder/cgroup.controllers"); do echo "+$one" >"$folder/cgroup.subtree_control"; done 2>/dev/null
    fi
    mkdir -p "$folder/wqmachine-$NAME" 2>/dev/null || continue
    if [ "$controllers" = cpuset ]; then
      for one in cpuset.cpus cpuset.mems; do cat "$folder/$one" >"$folder/wqmachine-$NAME/$one"; done
    fi
    echo "$folder/wqmachine-$NAME" >>"$DISK/cgroups"
  done < <(own_cgroups)
}
enter_cgroups() { # PID; once systemd is up there are processes only in the leaves
  local folder
  while read -r folder; do
    [ -d "$folder/init.scope" ] && folder=$folder/init.scope
    echo "$1" >"$folder/cgroup.procs"
  done <"$DISK/cgroups"
}
remove_cgroups() {
  local folder pid left _
  [ -s "$DISK/cgroups" ] || return 0
  for _ in $(seq 50); do
    left=
    while read -r folder; do
      case $folder in */wqmachine-"$NAME") ;; *) continue ;; esac
      [ -d "$folder" ] || continue
      while read -r pid; do [ "$pid" -gt 1 ] && kill -9 "$pid" 2>/dev/null; done \
        < <(find "$folder" -name cgroup.procs -exec cat {} + 2>/dev/null)
      find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null
      [ -d "$folder" ] && left=$folder
    done <"$DISK/cgroups"
    [ -z "$left" ] && return 0
    sleep 0.1
  done
  say "the cgroup $left stays"
}

# ---- the first process of a machine, in its namespaces but still with our root
init() {
  local root=$DISK/root cgroups=$1 item source target pid
  # This is the outer /proc still, so these are the numbers by which the outside knows us.
  read -r pid _ </proc/self/stat
  echo "$pid $(start_time "$pid")" >"$DISK/pid.new"
  mv "$DISK/pid.new" "$DISK/pid"
  hostname "$NAME"
  mount --make-rprivate /
  mount -t overlay overlay -o "lowerdir=$(cat "$DISK/lower"),upperdir=$DISK/upper,workdir=$DISK/work,index=off" \
    "$root" || exit 1
  if [ ! -e "$root/etc/wqmachine" ]; then furnish "$root"; fi
  mount -t proc proc "$root/proc" -o nosuid,nodev,noexec
  mount -t sysfs sysfs "$root/sys" -o nosuid,nodev,noexec
  mount -t tmpfs tmpfs "$root/run" -o nosuid,nodev,mode=755
  mount -t tmpfs tmpfs "$root/tmp" -o nosuid,nodev,mode=1777
  mount -t tmpfs tmpfs "$root/dev" -o nosuid,mode=755
  for item in null zero full random urandom tty; do
    : >"$root/dev/$item"
    mount --bind "/dev/$item" "$root/dev/$item"
  done
  ln -s /proc/self/fd "$root/dev/fd"
  ln -s fd/0 "$root/dev/stdin"
  ln -s fd/1 "$root/dev/stdout"
  ln -s fd/2 "$root/dev/stderr"
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=0666,mode=620,gid=5
  ln -s pts/ptmx "$root/dev/ptmx"
  mount -t tmpfs tmpfs "$root/dev/shm" -o nosuid,nodev,mode=1777
  # The terminal of script(1) is the console.
  : >"$root/dev/console"
  mount --bind "$(readlink /proc/self/fd/0)" "$root/dev/console"
  if [ "$cgroups" = v2 ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" -o nosuid,nodev,noexec
  else
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup" -o nosuid,nodev,noexec,mode=755
    local id controllers options
    while IFS=: read -r id controllers _; do
      if [ "$id" = 0 ]; then
        mkdir "$root/sys/fs/cgroup/unified"
        mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
        continue
      fi
      options=$controllers
      case $controllers in name=*) options=none,$controllers ;; esac
      mkdir "$root/sys/fs/cgroup/${controllers#name=}"
      mount -t cgroup cgroup "$root/sys/fs/cgroup/${controllers#name=}" -o "$options" ||
        rmdir "$root/sys/fs/cgroup/${controllers#name=}"
    done </proc/self/cgroup
  fi
  while IFS=: read -r source target; do
    if [ -d "$source" ]; then mkdir -p "$root$target"; else mkdir -p "$(dirname "$root$target")" && : >>"$root$target"; fi
    mount --bind "$source" "$root$target"
    mount -o remount,bind,ro "$root$target"
  done <"$DISK/binds"
  # Our own mounts leave with the old root.
  cd "$root" && mkdir -p .oldroot && pivot_root . .oldroot || exit 1
  umount -l /.oldroot
  rmdir /.oldroot
  # As on any other machine; LoadCredential= needs it.
  mount --make-rshared /
  exec env -i container=other PATH=$CLEAN_PATH LANG=C.UTF-8 TERM=dumb $SYSTEMD --system --log-target=journal-or-kmsg \
    --show-status=1 systemd.unit=multi-user.target \
    "systemd.unified_cgroup_hierarchy=$([ "$cgroups" = v2 ] && echo 1 || echo 0)"
}

# What differs from this machine, written once.
furnish() {
  local root=$1 unit source target mode
  # Nothing that somebody switched on here is to run there, nor a policy of a container image against starting services.
  rm -rf "$root"/etc/systemd/system/* "$root"/etc/rc?.d/* "$root"/usr/sbin/policy-rc.d "$root"/var/log/journal
  # What looks after devices, clocks and terminals, or writes to the kernel that we share.
  for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
    systemd-timesyncd.service systemd-modules-load.service systemd-sysctl.service systemd-pstore.service \
    systemd-binfmt.service systemd-firstboot.service systemd-networkd-wait-online.service \
    getty.target console-getty.service dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-kernel-config.mount sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
  done
  echo "$NAME" >"$root/etc/hostname"
  echo "127.0.0.1 localhost $NAME" >"$root/etc/hosts"
  : >"$root/etc/fstab"
  tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
  # The journal is kept over a reboot.
  mkdir -p "$root/var/log/journal"
  while IFS=: read -r source target mode; do
    [ -e "$root$(dirname "$target")" ] || mkdir -p "$root$(dirname "$target")"
    install -m "${mode:-644}" "$source" "$root$target" || exit 1
  done <"$DISK/installs"
  : >"$root/etc/wqmachine"
}

boot() {
  local cgroups=v2 monitor state= _
  [ ! -e "$DISK/unified" ] && grep -q ':memory:' /proc/self/cgroup && cgroups=hybrid
  mkdir -p "$DISK/upper" "$DISK/work" "$DISK/root"
  make_cgroups
  : >"$DISK/console"
  rm -f "$DISK/pid"
  # The machine ends with unshare(1), and script(1) keeps what is printed on the console.
  ( enter_cgroups "$BASHPID"
    exec setsid script -qefc "exec unshare --pid --mount --uts --ipc --net --cgroup --fork --kill-child=KILL \
      $(printf '%q ' "$(realpath "$0")" init "$NAME" $cgroups)" "$DISK/console" </dev/null >/dev/null 2>&1 9>&- ) &
  monitor=$!
  disown $monitor
  for _ in $(seq 500); do
    { [ -s "$DISK/pid" ] || ! kill -0 $monitor 2>/dev/null; } && break
    sleep 0.02
  done
  for _ in $(seq 500); do
    is_alive || { fail "it ended while it was being set up"; return 1; }
    [ "$(tr '\0' ' ' 2>/dev/null <"/proc/$INIT/cmdline" | cut -d' ' -f1)" = $SYSTEMD ] && break
    sleep 0.02
  done
  for _ in $(seq 300); do
    is_alive || { fail "it ended while it booted"; return 1; }
    # It may wait in vain where the end of the boot came between its question and its waiting.
    state=$( (run timeout 2 systemctl is-system-running --wait 2>"$DISK/why") )
    case $state in running | degraded) break ;; esac
    sleep 0.1
  done
  [ "$state" = running ] && return 0
  [ "$state" = degraded ] && (run systemctl --failed --no-legend --plain) >&2
  fail "it is ${state:-not up} ($(cat "$DISK/why"))"
}
fail() {
  say "$NAME does not boot: $*. Its console:"
  tail -n 40 "$DISK/console" >&2
  return 1
}

run() {
  is_alive || die "$NAME is not running"
  enter_cgroups "$BASHPID" 2>/dev/null
  exec nsenter -t "$INIT" -m -u -i -n -p -C -- env -i PATH=$CLEAN_PATH HOME=/root LANG=C.UTF-8 TERM=dumb \
    WQ_MACHINE="$NAME" "$@"
}

shut_down() {
  local _
  is_alive || return 0
  kill -s RTMIN+4 "$INIT" # poweroff.target, see systemd(1)
  for _ in $(seq 600); do is_alive || return 0; sleep 0.1; done
  say "$NAME does not shut down"
  return 1
}
remove() {
  local _
  is_alive && kill -9 "$INIT"
  for _ in $(seq 100); do is_alive || break; sleep 0.05; done
  remove_cgroups
  rm -rf "$DISK"
}

# Removes what was left by those who held a machine and were killed before they could remove it: nobody has its lock.
sweep() {
  local folder
  for folder in "$MACHINES"/*/; do
    [ -e "$folder/holder" ] && flock --nonblock "$folder/holder" true 2>/dev/null || continue
    (NAME=$(basename "$folder") DISK=${folder%/} && remove 2>/dev/null)
  done
}

hold() {
  local order
  # The orders of a terminal are for whoever holds us: when they end, our standard input ends.
  trap '' INT HUP
  sweep
  mkdir -p "$MACHINES" && chmod 700 "$MACHINES"
  mkdir "$DISK" || die "there is a machine $NAME already"
  # Under its name it is there only once it is locked.
  exec 9>"$DISK/holder.new" && flock 9 && mv "$DISK/holder.new" "$DISK/holder" || exit 1
  trap remove EXIT
  : >"$DISK/installs"
  : >"$DISK/binds"
  echo "${MACHINE_ROOT:-/}" >"$DISK/lower"
  while [ $# -gt 0 ]; do
    case $1 in
      --unified) : >"$DISK/unified" && shift && continue ;;
      --root) echo "$2" >"$DISK/lower" ;;
      --install) echo "$2" >>"$DISK/installs" ;;
      --bind) echo "$2" >>"$DISK/binds" ;;
      *) die "what is $1?" ;;
    esac
    shift 2
  done
  boot || exit 1
  echo up
  while read -r order; do
    [ "$order" = reboot ] || die "what is $order?"
    shut_down || exit 1
    remove_cgroups
    rm -rf "$DISK/work"
    boot || exit 1
    echo up
  done
}

network() {
  # shellcheck disable=SC2016
  exec unshare --net sh -c 'ip link add bridge type bridge forward_delay 0 && ip link set bridge up && echo "up $$" && cat >/dev/null'
}
# Both ends are gone with the network or with the machine.
plug() { # NUMBER ADDRESS/BITS
  local host=${2##*.}
  is_alive || die "$NAME is not running"
  # Its hardware stays the same, or others would look for it in vain for half a minute after a reboot.
  host=$(printf '02:00:00:00:00:%02x' "${host%/*}")
  nsenter -t "$1" -n ip link add "$NAME" type veth peer name eth0 address "$host" netns "$INIT" &&
    nsenter -t "$1" -n ip link set "$NAME" master bridge up &&
    nsenter -t "$INIT" -n ip address add "$2" dev eth0 &&
    nsenter -t "$INIT" -n ip link set eth0 up
}
cable() { nsenter -t "$1" -n ip link set "$NAME" "$2"; } # NUMBER up|down

check() {
  local tool
  no() { echo "$*"; exit 1; }
  [ "$(id -u)" = 0 ] || no "only root can boot a machine"
  [ -x $SYSTEMD ] || no "systemd is not installed"
  for tool in script setsid unshare nsenter pivot_root flock dbus-daemon; do
    command -v $tool >/dev/null || no "$tool is not installed"
  done
  mkdir -p "$MACHINES" || no "$MACHINES can't be made"
  case $(stat -f -c %T "$MACHINES") in overlay*) no "$MACHINES is on an overlay; set MACHINES to a folder that is not" ;; esac
  unshare --pid --mount --uts --ipc --net --cgroup --fork true 2>/dev/null || no "namespaces can't be made here"
  DISK=$(mktemp -d "$MACHINES/check-XXXXXX")
  mkdir "$DISK/upper" "$DISK/work" "$DISK/root"
  # shellcheck disable=SC2016
  unshare --mount --pid --fork sh -c 'mount -t overlay overlay \
    -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work,index=off" "$0/root" && mount -t proc proc "$0/root/proc" &&
    mount -t tmpfs tmpfs "$0/root/run"' "$DISK" 2>/dev/null
  tool=$?
  rm -rf "$DISK"
  [ $tool = 0 ] || no "file systems can't be mounted here, not even in a namespace"
  [ -n "$(own_cgroups)" ] || no "there are no cgroups"
}

order=${1:-}
NAME=${2:-}
DISK=$MACHINES/$NAME
case $order in
  check) check; exit ;;
  network) network ;;
  init | hold | run | console | plug | cable) case $NAME in '' | *[!a-z0-9-]* | -*) die "a name has the characters a-z, 0-9 and -" ;; esac ;;
  *) die "see the beginning of this file" ;;
esac
shift 2
case $order in
  console) cat "$DISK/console" ;;
  *) $order "$@" ;;
esac

#!/usr/bin/env bash
# What the built-in client takes while it is idle: one alone, from a program file that nobody else uses, and twenty of one
# controller. Memory as smaps_rollup and status of proc(5) have it, and processor time over 30 s. Builds with --profile dist.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --profile dist --locked --quiet
folder=$(mktemp -d)
started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap finish EXIT
port=17200 controller=17250

mib() { awk -v name="$1:" '$1 == name { printf "%.2f", $2 / 1024 }' "$2"; }
# utime and stime of proc_pid_stat(5), in ticks of 10 ms.
ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
# A line of the table for these processes.
row() { # what, pids
  local what=$1 pid before=0 after=0; shift
  sleep 5
  for pid in "$@"; do before=$((before + $(ticks "$pid"))); done
  sleep 30
  for pid in "$@"; do after=$((after + $(ticks "$pid"))); done
  for pid in "$@"; do echo "$(mib Pss "/proc/$pid/smaps_rollup") $(mib VmRSS "/proc/$pid/status")"; done |
    awk -v what="$what" -v ticks=$((after - before)) '
      { pss += $1; if (NR == 1 || $1 > most) most = $1; if (NR == 1 || $2 > rss) rss = $2 }
      END { printf "%-22s %10.2f %10.2f %10.2f %14d\n", what, pss / NR, most, rss, ticks }'
}

printf '%-22s %10s %10s %10s %14s\n' '' 'PSS, MiB' 'most' 'RSS, most' 'ticks in 30 s'
# A file of its own, in which nothing is shared.
cp target/dist/wqcontroller "$folder/wqclient"
MOJO_WEBQQ_ACCOUNT=alone MOJO_WEBQQ_PLUGIN_OPENQQ_PORT=$port MOJO_WEBQQ_TMPDIR=$folder "$folder/wqclient" >"$folder/log" 2>&1 &
started+=("$!")
until curl -sf "http://127.0.0.1:$port/openqq/get_user_info" >/dev/null; do sleep 0.2; done
row 'one, alone' "${started[0]}"

mkdir "$folder/twenty"
printf 'listen = "127.0.0.1:%s"\nbackend_start_port = %s\ntmpdir = "%s"\nlog_level = "warn"\n' \
  "$controller" $((controller + 1)) "$folder/twenty" >"$folder/wqcontroller.toml"
XDG_STATE_HOME=$folder target/dist/wqcontroller --config "$folder/wqcontroller.toml" >"$folder/log" 2>&1 &
started+=("$!")
api=http://127.0.0.1:$controller/openqq
pids=()
for n in $(seq 20); do
  reply=$(curl -s --retry 100 --retry-delay 0 --retry-connrefused "$api/start_client?client=c$n")
  pids+=("$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' <<<"$reply")")
done
until [ "$(curl -s "$api/check_client" | grep -o '"state":"running"' | wc -l)" = 20 ]; do sleep 0.2; done
row 'twenty, each' "${pids[@]}"

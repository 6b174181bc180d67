#!/usr/bin/env bash
# Twenty restarts of the service under load, on a machine with systemd (tests/systemd/machine.sh): how many requests fail,
# and whether the clients, which are units, are still the same processes. Needs root, wrk and curl.
#
#   tests/bench/restarts.sh [PROGRAM]       the program is target/dist/wqcontroller where none is named
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${1:-target/dist/wqcontroller}
machine=tests/systemd/machine.sh
name=restarts-$$
fail() { echo "restarts.sh: $*" >&2; exit 1; }
[ -x "$program" ] || fail "$program is missing: cargo build --profile dist"
for tool in wrk curl; do command -v $tool >/dev/null || fail "$tool is not installed"; done
why=$($machine check) || fail "$why"

install=(--install "$program:/usr/sbin/wqcontroller:755"
  --install systemd/50-wqcontroller.rules:/usr/share/polkit-1/rules.d/50-wqcontroller.rules)
for file in systemd/*.{service,socket,slice,target}; do
  install+=(--install "$file:/usr/lib/systemd/system/${file##*/}")
done
for file in systemd/{sysusers,tmpfiles}.d/*; do install+=(--install "$file:/usr/lib/${file#systemd/}"); done
coproc "$machine" hold "$name" "${install[@]}"
read -r up <&"${COPROC[0]}"
[ "$up" = up ] || fail "the machine does not boot"

# shellcheck disable=SC2016
$machine run "$name" bash -euc '
  systemctl start wqcontroller.socket wqcontroller.service
  api=http://127.0.0.1:4000/openqq
  for client in a b c; do
    curl -fsS "$api/start_client?client=$client" >/dev/null
    until curl -fsS "$api/get_user_info?client=$client" >/dev/null 2>&1; do sleep 0.1; done
  done
  pids() { systemctl show --value --property MainPID wqclient@a wqclient@b wqclient@c | xargs; }
  before=$(pids)
  for path in check_client "get_user_info?client=a"; do
    # It ends when it is told to, and then says what it saw.
    wrk --connections 32 --threads 2 --timeout 30s --latency --duration 600s "$api/$path" >/tmp/wrk &
    load=$!
    for _ in $(seq 20); do
      sleep 0.5
      systemctl restart wqcontroller.service
    done
    sleep 0.5
    kill -INT $load
    wait $load
    echo "$path, twenty restarts:"
    grep -E "requests in|Latency  |Socket errors|Non-2xx" /tmp/wrk
    grep -qE "Socket errors|Non-2xx" /tmp/wrk || echo "  no request failed"
  done
  echo "MainPID of the clients: $before before, $(pids) after"
  [ "$before" = "$(pids)" ] || echo "A CLIENT IS ANOTHER PROCESS"
'

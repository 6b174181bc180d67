#!/usr/bin/env bash
# Twenty restarts of the service under load, on a machine with systemd (tests/systemd/machine.sh): how many requests fail,
# and whether the client behind them is still the same process. Needs root, wrk and curl.
#
#   tests/bench/restarts.sh [PROGRAM]       the program is target/release/wqcontroller where none is named
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${1:-target/release/wqcontroller}
machine=tests/systemd/machine.sh
name=restarts-$$
fail() { echo "restarts.sh: $*" >&2; exit 1; }
[ -x "$program" ] || fail "$program is missing: cargo build --release"
for tool in wrk curl; do command -v $tool >/dev/null || fail "$tool is not installed"; done
why=$($machine check) || fail "$why"

unit=/usr/lib/systemd/system
coproc "$machine" hold "$name" --install "$program:/usr/sbin/wqcontroller:755" \
  --install systemd/wqcontroller.service:$unit/wqcontroller.service \
  --install systemd/wqcontroller.socket:$unit/wqcontroller.socket \
  --install systemd/sysusers.d/wqcontroller.conf:/usr/lib/sysusers.d/wqcontroller.conf
read -r up <&"${COPROC[0]}"
[ "$up" = up ] || fail "the machine does not boot"

# shellcheck disable=SC2016
$machine run "$name" bash -euc '
  mkdir -p /etc/wqcontroller /etc/systemd/system/wqcontroller.service.d
  echo "supervisor.clients_outlive_controller = true" >/etc/wqcontroller/wqcontroller.toml
  printf "[Service]\nKillMode=process\n" >/etc/systemd/system/wqcontroller.service.d/keep.conf
  systemctl daemon-reload
  systemctl start wqcontroller.socket wqcontroller.service
  api=http://127.0.0.1:4000/openqq
  curl -fsS "$api/start_client?client=a" >/dev/null
  until curl -fsS "$api/get_user_info?client=a" >/dev/null 2>&1; do sleep 0.1; done
  pid() { curl -fsS "$api/check_client?client=a" | grep -o "\"pid\":[0-9]*"; }
  before=$(pid)
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
  [ "$before" = "$(pid)" ] && echo "the client is the same process" || echo "THE CLIENT IS ANOTHER PROCESS"
'

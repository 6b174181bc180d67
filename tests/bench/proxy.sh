#!/usr/bin/env bash
# The proxy beside nginx and beside no proxy at all: the same upstream, the same wrk, one worker each, in one run.
# Needs nginx, wrk and curl; builds the controller with --profile dist. ROUNDS, SECONDS_EACH and HEADERS=all may be set.
# Prints a table of medians, with the lowest and the highest of all rounds.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-5} each=${SECONDS_EACH:-5}
for tool in nginx wrk curl; do
  command -v "$tool" >/dev/null || { echo "tests/bench/proxy.sh: $tool is missing" >&2; exit 1; }
done
cargo build --profile dist --locked --quiet
folder=$(mktemp -d)
started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap finish EXIT

client=17010 nginx=17100 controller=17101
printf '#!/bin/sh\nexec sleep 3600\n' >"$folder/template" && chmod 755 "$folder/template"
cat >"$folder/wqcontroller.toml" <<END
listen = "127.0.0.1:$controller"
backend_start_port = $client
tmpdir = "$folder"
template_path = "$folder/template"
log_level = "warn"
[http]
worker_threads = 1
END
XDG_STATE_HOME=$folder target/dist/wqcontroller --config "$folder/wqcontroller.toml" & ours=$!
started+=("$ours")
call() { curl -s --retry 100 --retry-delay 0 --retry-connrefused "http://127.0.0.1:$1/openqq/$2"; }
reply=$(call "$controller" 'start_client?client=a')
[[ $reply == *'"port":'$client* ]] || { echo "tests/bench/proxy.sh: port $client is not free: $reply" >&2; exit 1; }

# The client is only a process; what listens on its port is an nginx that has nothing to do but to answer.
serve() { # name, what stands in http
  printf 'daemon off; worker_processes 1; pid %s.pid; error_log %s.log; events { worker_connections 1024; }\n
    http { access_log off; keepalive_requests 1000000000; %s }\n' "$folder/$1" "$folder/$1" "$2" >"$folder/$1.conf"
  nginx -e "$folder/$1.log" -c "$folder/$1.conf" & started+=("$!")
}
serve upstream "server { listen 127.0.0.1:$client backlog=1024; location / { default_type application/json;
  return 200 '{\"code\":0,\"status\":\"success\"}'; } }"
# What the controller tells clients of where a request came from, where nginx is to tell the same (HEADERS=all).
more=''
[ "${HEADERS:-}" != all ] || more='proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header Via "1.1 nginx"; proxy_set_header Forwarded "for=$remote_addr;host=\"$http_host\";proto=$scheme";'
serve nginx "upstream client { server 127.0.0.1:$client; keepalive 64; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:$nginx backlog=1024; location / { proxy_pass http://client; proxy_http_version 1.1;
  proxy_set_header Connection ''; proxy_set_header X-Forwarded-For \$remote_addr; $more } }"
proxying=$!
for port in "$client" "$nginx" "$controller"; do
  [[ $(call "$port" 'x?client=a') == *success* ]] || { echo "tests/bench/proxy.sh: no answer on $port" >&2; exit 1; }
done
worker=$(pgrep -P "$proxying")

# Processor time of a process in ticks of 10 ms: utime and stime of proc_pid_stat(5).
ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
# One run: requests/s, CPU microseconds per request, p50 and p99 in microseconds.
run() { # port, pid or nothing
  local before=0 after=0
  [ -z "$2" ] || before=$(ticks "$2")
  wrk -t1 -c32 -d"${each}s" --latency "http://127.0.0.1:$1/openqq/get_user_info?client=a" >"$folder/wrk"
  [ -z "$2" ] || after=$(ticks "$2")
  ! grep -E 'Socket errors|Non-2xx' "$folder/wrk" >&2 || exit 1
  awk -v cpu=$((after - before)) '
    function us(t) { return t ~ /us$/ ? t + 0 : t ~ /ms$/ ? t * 1000 : t * 1000000 }
    $1 == "50%" { p50 = us($2) } $1 == "99%" { p99 = us($2) }
    /requests in/ { n = $1 } /^Requests\/sec/ { rate = $2 }
    END { printf "%.0f %.1f %.0f %.0f\n", rate, cpu * 10000 / n, p50, p99 }' "$folder/wrk"
}
run "$client" '' >/dev/null # warm
for round in $(seq "$rounds"); do
  run "$client" '' >>"$folder/direct"
  run "$nginx" "$worker" >>"$folder/with-nginx"
  run "$controller" "$ours" >>"$folder/with-wqcontroller"
done

column_of() { # file, column: median (lowest-highest)
  awk -v c="$2" '{ print $c }' "$folder/$1" | sort -g | awk '{ v[NR] = $1 } END { printf "%s (%s-%s)", v[int((NR + 1) / 2)], v[1], v[NR] }'
}
echo "$rounds rounds of $each s, 32 connections, $(nproc) x $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1)"
printf '%-14s %-24s %-22s %-18s %-20s\n' '' 'requests/s' 'CPU us/request' 'p50 us' 'p99 us'
for side in direct with-nginx with-wqcontroller; do
  cpu=$(column_of "$side" 2); [ "$side" != direct ] || cpu=-
  printf '%-18s %-24s %-22s %-18s %-20s\n' "${side#with-}" "$(column_of "$side" 1)" "$cpu" "$(column_of "$side" 3)" "$(column_of "$side" 4)"
done

#!/usr/bin/env bash
# The way through the door to another machine, beside nginx over the same ssh forward: the same sshd, tunnel, controller and client behind
# both, the same wrk, one worker each, in one run. sshd is one of this script, on loopback, with keys of its own.
# Needs nginx, wrk, curl, ssh, ssh-keygen and sshd; builds the controller with --profile dist. ROUNDS, SECONDS_EACH, CONNECTIONS and
# HEADERS=all may be set; NODELAY=1 for a tunnel whose sshd holds no small packet back; and WQ_BENCH_PROGRAM to measure a program that
# is built already. Prints a table of medians, with the lowest and the highest of all rounds.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-5} each=${SECONDS_EACH:-5} connections=${CONNECTIONS:-32}
sshd=$(command -v sshd || echo /usr/sbin/sshd)
for tool in nginx wrk curl ssh ssh-keygen "$sshd"; do
  command -v "$tool" >/dev/null || { echo "tests/bench/machines.sh: $tool is missing" >&2; exit 1; }
done
if [ -z "${WQ_BENCH_PROGRAM:-}" ]; then
  cargo build --profile dist --locked --quiet
  WQ_BENCH_PROGRAM=$(realpath "${CARGO_TARGET_DIR:-target}/dist/wqcontroller")
fi
program=$WQ_BENCH_PROGRAM
folder=$(mktemp -d)
started=()
finish() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap finish EXIT
give_up() { echo "tests/bench/machines.sh: $*" >&2; exit 1; }

client=17210 nginx=17300 door=17301 there=17302 ssh_port=17322

# A machine's sshd, which lets in this user alone, by a key that was made for this run.
ssh-keygen -q -t ed25519 -N '' -f "$folder/host"
ssh-keygen -q -t ed25519 -N '' -f "$folder/key"
cp "$folder/key.pub" "$folder/authorized"
cat >"$folder/sshd.conf" <<END
ListenAddress 127.0.0.1:$ssh_port
HostKey $folder/host
AuthorizedKeysFile $folder/authorized
PidFile none
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowStreamLocalForwarding yes
LogLevel ERROR
END
# An sshd of root wants its empty folder.
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
"$sshd" -D -e -f "$folder/sshd.conf" & started+=("$!")
# The door runs the operator's ssh. Here that is one that knows nothing but this machine.
echo "[127.0.0.1]:$ssh_port $(cut -d ' ' -f 1,2 "$folder/host.pub")" >"$folder/known"
cat >"$folder/ssh.conf" <<END
IdentityFile $folder/key
IdentitiesOnly yes
UserKnownHostsFile $folder/known
GlobalKnownHostsFile none
END
mkdir "$folder/bin"
shared=''
[ -z "${NODELAY:-}" ] || shared="-o ControlMaster=yes -o ControlPath=$folder/shared"
printf '#!/bin/sh\nexec %s -F %s %s "$@"\n' "$(command -v ssh)" "$folder/ssh.conf" "$shared" >"$folder/bin/ssh"
chmod 755 "$folder/bin/ssh"

# The other machine: its controller listens at a socket, and at a port, where it is measured without the way to it.
printf '#!/bin/sh\nexec sleep 3600\n' >"$folder/template" && chmod 755 "$folder/template"
controller() { # name, listen, more lines
  mkdir -p "$folder/$1"
  cat >"$folder/$1.toml" <<END
listen = $2
backend_start_port = $client
tmpdir = "$folder/$1"
template_path = "$folder/template"
log_level = "warn"
[http]
worker_threads = 1
$3
END
  PATH=$folder/bin:$PATH XDG_STATE_HOME=$folder/$1 "$program" --config "$folder/$1.toml" & started+=("$!")
}
controller there "[\"127.0.0.1:$there\", \"unix:$folder/there.sock\"]" ''
theirs=$!
controller door "\"127.0.0.1:$door\"" "[machines.there]
url = \"ssh://$(id -un)@127.0.0.1:$ssh_port$folder/there.sock\""
ours=$! tunnel=$folder/door/machines/there.sock
call() { curl -s --retry 100 --retry-delay 0 --retry-connrefused "http://127.0.0.1:$1/openqq/$2"; }
for _ in $(seq 100); do
  # Until the tunnel is there the machine is unreachable.
  reply=$(call "$door" 'start_client?client=a&machine=there')
  [[ $reply != *'"port":'$client* ]] || break
  sleep 0.1
done
[[ $reply == *'"port":'$client* ]] || give_up "the client is not started, or port $client is not free: $reply"
[ -S "$tunnel" ] || give_up "there is no tunnel at $tunnel"
# sshd sets TCP_NODELAY when a session begins, and without one never.
[ -z "${NODELAY:-}" ] || ssh -F "$folder/ssh.conf" -S "$folder/shared" 127.0.0.1 true

# The client is only a process; what listens on its port is an nginx that has nothing to do but to answer.
# Its workers have to reach the tunnel's socket, which is its user's alone.
user=''
[ "$(id -u)" != 0 ] || user='user root root;'
serve() { # name, what stands in http
  printf 'daemon off; '"$user"'
     worker_processes 1; pid %s.pid; error_log %s.log; events { worker_connections 1024; }\n
    http { access_log off; keepalive_requests 1000000000; %s }\n' "$folder/$1" "$folder/$1" "$2" >"$folder/$1.conf"
  nginx -e "$folder/$1.log" -c "$folder/$1.conf" & started+=("$!")
}
serve upstream "server { listen 127.0.0.1:$client backlog=1024; location / { default_type application/json;
  return 200 '{\"code\":0,\"status\":\"success\"}'; } }"
# What the door tells of where a request came from, where nginx is to tell the same (HEADERS=all).
more=''
[ "${HEADERS:-}" != all ] || more='proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header Via "1.1 nginx"; proxy_set_header Forwarded "for=$remote_addr;host=\"$http_host\";proto=$scheme";'
serve nginx "upstream there { server unix:$tunnel; keepalive 64; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:$nginx backlog=1024; location / { proxy_pass http://there; proxy_http_version 1.1;
  proxy_set_header Host localhost; proxy_set_header Connection ''; proxy_set_header X-Wqcontroller-Door full;
  proxy_set_header X-Forwarded-For \$remote_addr; $more } }"
proxying=$!
for port in "$client" "$there" "$nginx" "$door"; do
  [[ $(call "$port" 'x?client=a') == *success* ]] || give_up "no answer on $port: $(call "$port" 'x?client=a')"
done
worker=$(pgrep -P "$proxying")
tunnelling=$(pgrep -P "$ours" ssh)

# Processor time of a process in ticks of 10 ms: utime and stime of proc_pid_stat(5).
ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }
# One run: requests/s, CPU microseconds per request of the proxy and of ssh here, p50 and p99 in microseconds.
run() { # port, pid or nothing
  local before=0 after=0 tunnel_before tunnel_after
  [ -z "$2" ] || before=$(ticks "$2")
  tunnel_before=$(ticks "$tunnelling")
  wrk -t1 -c"$connections" -d"${each}s" --latency "http://127.0.0.1:$1/openqq/get_user_info?client=a" >"$folder/wrk"
  [ -z "$2" ] || after=$(ticks "$2")
  tunnel_after=$(ticks "$tunnelling")
  ! grep -E 'Socket errors|Non-2xx' "$folder/wrk" >&2 || exit 1
  awk -v cpu=$((after - before)) -v tunnel=$((tunnel_after - tunnel_before)) '
    function us(t) { return t ~ /us$/ ? t + 0 : t ~ /ms$/ ? t * 1000 : t * 1000000 }
    $1 == "50%" { p50 = us($2) } $1 == "99%" { p99 = us($2) }
    /requests in/ { n = $1 } /^Requests\/sec/ { rate = $2 }
    END { printf "%.0f %.1f %.1f %.0f %.0f\n", rate, cpu * 10000 / n, tunnel * 10000 / n, p50, p99 }' "$folder/wrk"
}
run "$there" '' >/dev/null # warm
for _ in $(seq "$rounds"); do
  run "$there" "$theirs" >>"$folder/without-way"
  # In turn, so that what else the machine does falls on both.
  run "$nginx" "$worker" >>"$folder/with-nginx"
  run "$door" "$ours" >>"$folder/with-door"
done

column_of() { # file, column: median (lowest-highest)
  awk -v c="$2" '{ print $c }' "$folder/$1" | sort -g | awk '{ v[NR] = $1 } END { printf "%s (%s-%s)", v[int((NR + 1) / 2)], v[1], v[NR] }'
}
echo "$rounds rounds of $each s, $connections connections, $(nproc) x $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1), load $(cut -d ' ' -f 1-3 /proc/loadavg)"
printf '%-14s %-24s %-20s %-20s %-22s %-22s\n' '' 'requests/s' 'CPU us/request' 'CPU of ssh' 'p50 us' 'p99 us'
for side in without-way with-nginx with-door; do
  printf '%-14s %-24s %-20s %-20s %-22s %-22s\n' "${side#with-}" "$(column_of "$side" 1)" "$(column_of "$side" 2)" "$(column_of "$side" 3)" \
    "$(column_of "$side" 4)" "$(column_of "$side" 5)"
done

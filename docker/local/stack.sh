#!/bin/sh
# The whole house on this machine, in an environment that is already set up: stack.sh run | up | down.
# `run` stays in the foreground; `up` returns when everything is healthy and leaves it running; `down` ends that.
set -u
here=$PWD
cd "$(dirname "$0")/../.." || exit 1
state=${STACK_STATE:-build/run}
pid_file=$state/pid
log=$state/log
url="http://${EDGE_HOST:-127.0.0.1}:${EDGE_PORT:-8080}"
wait_s=${STACK_WAIT_S:-90}
export DATA_DIR="${DATA_DIR:-.data}"
programs="asr diarize summarize edge"
if [ -z "${REDIS_URL:-}" ]; then programs="store $programs"; fi
# Whoever presses Ctrl-C wants everything to end now; the programs' own default gives running requests longer.
export EDGE_GRACE_S="${EDGE_GRACE_S:-0.5}" ASR_GRACE_S="${ASR_GRACE_S:-0.5}"
export DIARIZE_GRACE_S="${DIARIZE_GRACE_S:-0.5}" SUMMARIZE_GRACE_S="${SUMMARIZE_GRACE_S:-0.5}"
running() { [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; }

check_settings() { # every program's, and that its ports are free
    python - <<'PY'
import socket
from services.asr.settings import AsrSettings
from services.common.settings import read
from services.diarize.settings import DiarizeSettings
from services.edge.settings import EdgeSettings
from services.summarize.settings import SummarizeSettings
taken = []
for name, kind in {"EDGE": EdgeSettings, "ASR": AsrSettings, "DIARIZE": DiarizeSettings, "SUMMARIZE": SummarizeSettings}.items():
    try:
        settings = read(kind)
    except ValueError as error:
        raise SystemExit(str(error))
    for which, port in {"PORT": settings.port, "METRICS_PORT": settings.metrics_port}.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                taken.append(f"{settings.host}:{port} ({name}_{which}): {error.strerror}")
if taken:
    raise SystemExit("Cannot listen on " + "; ".join(taken) + ". Free the port, or choose another by that setting.")
PY
}

choose_models() {
    # A local server answers with what it has, and says so; models that are asked for here are loaded, or fetched first.
    embedded="base moonshine-tiny-en"
    if ! python -m services.asr.models list | grep -q '^base  *here'; then
        [ -n "${MODELS:-${ASR_MODELS:-}}" ] || echo "Whisper base is not installed here, so English alone is understood, by Moonshine (make clean, then again, tries anew)."
        embedded=moonshine-tiny-en
    fi
    export ASR_FALLBACK_MODELS="${ASR_FALLBACK_MODELS-$embedded}"
    export ASR_MODELS="${MODELS:-${ASR_MODELS:-$embedded}}"
}

check_store() {
    case $programs in store*) python docker/local/store.py --check "$DATA_DIR" ;; esac
}

start() { # start the Procfile runner as $1's standard output, under the command $2...; sets $runner
    output=$1
    shift
    # shellcheck disable=SC2086 # the programs are words
    PYTHONUNBUFFERED=1 "$@" honcho -d . -f docker/local/Procfile start $programs >"$output" 2>&1 </dev/null &
    runner=$!
}

healthy() { python -m services.edge.status --wait-s "$wait_s" --while-pid "$runner"; }

development_key() { # a disk that weights are written to may keep the store waiting for longer than it is waited for
    for _ in 1 2 3 4; do
        python -m services.edge.accounts development-key 2>/dev/null && return
    done
    python -m services.edge.accounts development-key
}

welcome() { # with a key of its own a newcomer does not meet the limits of those without one
    key=$(development_key) || return 1
    python - "$url" "$key" "$here" <<'PY'
import importlib.util, pathlib, shlex, sys
url, key, here = sys.argv[1:]
key = pathlib.Path(key).absolute()
key = shlex.quote(str(key.relative_to(here) if key.is_relative_to(here) else key))
(moonshine,) = importlib.util.find_spec("moonshine_voice").submodule_search_locations
file = shlex.quote(f"file=@{moonshine}/assets/endgame_nagg_nell.wav")
print(f"Ready at {url} - a dialogue of two, transcribed:")
print(f'  curl -H "Authorization: Bearer $(cat {key})" {url}/v1/transcribe -F {file}')
PY
}

stop_runner() { # $1: pid of the Procfile runner, which ends its children within 5 s
    kill -TERM "$1" 2>/dev/null
    while kill -0 "$1" 2>/dev/null; do sleep 0.1; done
}

case "${1:-}" in
run)
    check_settings && check_store && choose_models || exit 1
    start /dev/stdout
    trap 'trap "" INT TERM HUP; stop_runner "$runner"; exit 0' INT TERM HUP
    if healthy && welcome; then
        wait "$runner" # ends by itself only when a program fails
    fi
    stop_runner "$runner"
    exit 1
    ;;
up)
    if running; then echo "Already running at $url (make down ends it)."; exit 0; fi
    check_settings && check_store && choose_models || exit 1
    mkdir -p "$state"
    # A session of its own: a Ctrl-C in this terminal is not meant for it.
    start "$log" setsid
    echo "$runner" >"$pid_file"
    if healthy && welcome; then exit 0; fi
    stop_runner "$runner"
    rm -f "$pid_file"
    echo "Not started; the log is $log, its end:" >&2
    tail -n 15 "$log" >&2
    exit 1
    ;;
down)
    if running; then stop_runner "$(cat "$pid_file")"; echo "Stopped."; else echo "Nothing is running."; fi
    rm -f "$pid_file"
    ;;
*)
    echo "usage: stack.sh run | up | down" >&2
    exit 2
    ;;
esac

#!/bin/sh
# A shell worker: takes files out of a spool directory, one after the other, and tells its supervisor by `gangerctl notify`.
#
#   worker.sh SPOOL
#
# A file is claimed by renaming it, so any number of workers may share a spool. TERM is heeded between jobs: the shell runs a
# trap when the command in the foreground has ended.
set -eu

spool=${1:?usage: worker.sh SPOOL}
me=${GANGER_SLOT:-$$}
jobs=0
errors=0
stop=
trap 'stop=1' TERM INT

# Not supervised: say nothing. Told too late or not at all: work goes on.
tell() {
    if [ -n "${NOTIFY_SOCKET:-}" ]; then
        gangerctl notify "$@" || true
    fi
}

tell READY=1 "STATUS=watching $spool"
while [ -z "$stop" ]; do
    claimed=
    for file in "$spool"/*.job; do
        [ -e "$file" ] || continue
        # The loser of a race finds the file gone and takes the next one.
        if mv "$file" "$file.$me" 2>/dev/null; then
            claimed=$file.$me
            break
        fi
    done
    if [ -z "$claimed" ]; then
        sleep 1
        continue
    fi
    tell "X_JOB=$(basename "$claimed")" WATCHDOG=1
    # The work: here, the file is a little script.
    if sh "$claimed"; then
        rm -f "$claimed"
    else
        errors=$((errors + 1))
        mv "$claimed" "$claimed.failed"
    fi
    jobs=$((jobs + 1))
    tell "X_JOBS=$jobs" "X_ERRORS=$errors" X_JOB= WATCHDOG=1
done
tell STOPPING=1

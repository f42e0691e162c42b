"""The boot guard: a shell program beside the startup script of an instance that ends the instance without any worker.

It needs no Python, no network and no controller, only a POSIX shell with the standard utilities, and runs from the
first line of the startup script on. Arguments: PID of the script (empty for another boot), maximum lifetime in seconds
(empty for none), time limit for the start of a worker in seconds (empty for none), command that ends the instance, and
the program itself.

Invariants, each with a test:

1. An instance whose script has ended while no worker runs ends after `BOOT_GRACE`. An instance whose script runs and
   that had no worker within the time limit ends likewise. A worker is found by the name of its process.
2. A second boot ends the instance at once: its script may not run again, and its worker is gone. A disk image that was
   made from such an instance is another machine.
3. The maximum lifetime is measured by the time since the first boot, across clock changes and restarts.
4. The end is repeated until the instance is gone. A command that fails is followed by a shutdown.
5. The reason of the end is the last line on the instance's console, behind the output of the script.
"""

from __future__ import annotations

__all__ = ["BOOT_GRACE", "BOOT_GUARD", "OWN_END"]

OWN_END = "; this instance ends"
"""End of the last line on the console of an instance that the boot guard ends."""

BOOT_GRACE = 180
"""Seconds without script and worker after which an instance ends; ``CLOUD_TASKS_BOOT_GRACE`` of the instance's
environment overrides it. The output of the script is then still on the console, for the controller or the user."""

BOOT_GUARD = rf"""
r=${{CLOUD_TASKS_BOOT_ROOT:-}}
d=$r/var/lib/cloud-tasks
hook=$r/var/lib/cloud/scripts/per-boot
grace=${{CLOUD_TASKS_BOOT_GRACE:-{BOOT_GRACE}}}
pid=$1 left=$2 end=$4
off=${{CLOUD_TASKS_POWER_OFF_COMMAND:-$end}}

leave() {{
    echo "cloud-tasks: $1{OWN_END}" >>"$r/dev/console"
    while [ -z "$r" ] || [ -d "$r" ]; do
        sh -c "$2" || sh -c "$end"
        sleep 60
    done
    exit
}}
up() {{
    if read -r u _ </proc/uptime; then u=${{u%.*}}; else u=$(date +%s); fi
}}
lives() {{
    s=
    read -r s <"/proc/$pid/stat"
    [ -n "$s" ] || return 1
    set -- ${{s##*) }}
    [ "$1" != Z ] || return 1
    shift 19
    [ "${{born:=$1}}" = "$1" ]
}}

up
t0=$u
[ -z "$pid" ] || lives || pid=none
id=$(cat "$r/var/lib/cloud/data/instance-id" /sys/class/dmi/id/product_uuid | tr '\n' ' ')
boot=$(cat /proc/sys/kernel/random/boot_id)
known= last= at=
[ -f "$d/boot" ] && {{ IFS= read -r known; read -r last; }} <"$d/boot"
if [ -n "$last" ] && [ "$known" = "$id" ] && [ "$last" != "$boot" ]; then
    leave "it was restarted" "$end"
fi
known=
[ -f "$d/deadline" ] && {{ IFS= read -r known; read -r at; }} <"$d/deadline"
[ "$known" = "$id" ] || at=
case $at in *[!0-9]*) at= ;; esac
[ -n "$pid" ] || [ -n "$at" ] || exit
if [ -n "$left" ]; then
    now=$(date +%s)
    if [ -n "$at" ]; then
        at=$((at - now))
        [ "$at" -ge "$left" ] || left=$at
    else
        mkdir -p "$d"
        printf '%s\n' "$id" "$((now + left))" >"$d/deadline"
    fi
fi
if [ -n "$pid" ]; then
    mkdir -p "$d"
    printf '%s\n' "$id" "$boot" >"$d/boot"
    printf '%s\n' "$end" >"$d/end"
    printf '%s\n' "$5" >"$d/guard"
    if [ -d "$hook" ]; then
        printf '#!/bin/sh\ncd %s && /bin/sh ./guard "" "%s" "" "$(cat end)" </dev/null >/dev/null 2>&1 &\n' \
            "$d" "$2" >"$hook/cloud-tasks"
        chmod 755 "$hook/cloud-tasks"
    fi
    sync "$d"/* "$hook"
fi

seen= gone=
while :; do
    up
    p=5
    [ "$p" -le "$grace" ] || p=1
    if [ -n "$left" ]; then
        rest=$((left - u + t0))
        [ "$rest" -gt 0 ] || leave "its maximum lifetime is over" "$end"
        [ "$rest" -ge "$p" ] || p=$rest
    fi
    if [ -z "$pid" ]; then
        :
    elif grep -qsx "ctw-$1" /proc/[0-9]*/comm; then
        seen=1 gone=
    elif lives; then
        gone=
        if [ -z "$seen" ] && [ -n "$3" ] && [ $((u - t0)) -ge $(($3 + grace)) ]; then
            leave "no worker started within $3 s" "$off"
        fi
    else
        : "${{gone:=$u}}"
        [ $((u - gone)) -lt "$grace" ] || leave "the startup script ended, and no worker runs" "$off"
    fi
    sleep "$p"
done
""".strip()

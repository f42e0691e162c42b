# First part of the start of an instance: functions, then (composed by startup.py) the pieces to download.
# Shell: POSIX. Needs sha256sum, tar, gzip and what the downloads need.

umask 022
: "${HOME:=/root}"
export HOME
ct_home=${CLOUD_TASKS_BOOT_ROOT:-}/opt/cloud-tasks
ct_name=download ct_steps= ct_env= ct_sealed= ct_secrets=

# Hundredths of a second since the machine was started.
ct_clock() {
    read -r ct_now _ </proc/uptime
    ct_now=$((${ct_now%.*} * 100 + 1${ct_now#*.} - 100))
}

# ct_step NAME: begin a step, and note the time of the one before.
ct_step() {
    ct_last=$ct_now
    ct_clock
    ct_span=$((ct_now - ct_last))
    ct_steps="$ct_steps$ct_name=$((ct_span / 100)).$((ct_span / 10 % 10)) "
    ct_name=$1
}

# ct_fail REASON: report why this instance cannot start, on its console and if possible as an event, and end it.
ct_fail() {
    ct_reason=$(printf %s "$1" | tr -s '[:space:][:cntrl:]' ' ' |
        sed 's/^error: //; s/ cause: /: /g; s/^ *//; s/ *$//' | cut -c 1-500)
    ct_free=$(df -Pk "$ct_home" 2>/dev/null | sed -n '2s/^.* \([0-9][0-9]*\)  *[0-9][0-9]*% .*$/\1/p')
    case ${ct_free:-9999}/$ct_reason in
    ?/* | ??/* | ???/* | *"No space left"*) ct_reason="the disk is full: $ct_reason" ;;
    esac
    # On a line of its own, and not by echo, which some shells let interpret backslashes.
    printf '\n%s\n' "cloud-tasks: start failed: $ct_name: $ct_reason"
    if [ -n "$ct_env" ]; then
        CLOUD_TASKS_WORKER_SECRETS=${ct_secrets:+$ct_secrets/worker.json} timeout 60 "$ct_env/bin/python" -P -m cloud_tasks.worker.failed_start "$ct_name" "$ct_reason" </dev/null
    fi
    ct_forget
    sh -c "${CLOUD_TASKS_POWER_OFF_COMMAND:-:}"
    exit 1
}

# ct_forget: delete the secrets.
ct_forget() {
    [ -z "$ct_secrets" ] || rm -rf "$ct_secrets" "$ct_home/secrets"
}

# ct_run COMMAND...: run a step's command; its output is the reason if it fails.
ct_run() {
    ct_out=$("$@" 2>&1) || ct_fail "${ct_out:-$1 failed}"
}

ct_sum() {
    sha256sum "$1" 2>/dev/null | cut -d ' ' -f 1
}

# ct_piece NAME SHA256 FUNCTION: have the verified file in pieces/NAME; FUNCTION FILE downloads it.
ct_piece() {
    ct_file=$ct_home/pieces/$1
    [ "$(ct_sum "$ct_file")" != "$2" ] || return 0
    ct_out=$("$3" "$ct_file.part" 2>&1) || ct_fail "$1: ${ct_out:-no answer}"
    ct_found=$(ct_sum "$ct_file.part")
    if [ "$ct_found" != "$2" ]; then
        rm -f "$ct_file.part"
        ct_fail "$1: the SHA-256 is ${ct_found:-unknown}, not $2; someone may have changed it"
    fi
    ct_run mv "$ct_file.part" "$ct_file"
}

# ct_unpack NAME: unpack an archive of pieces/ into a folder of its name, whole or not at all.
ct_unpack() {
    ct_folder=$ct_home/${1%.tar.gz}
    [ ! -d "$ct_folder" ] || return 0
    ct_run rm -rf "$ct_folder.part"
    ct_run mkdir -p "$ct_folder.part"
    ct_run tar -xzf "$ct_home/pieces/$1" -C "$ct_folder.part"
    ct_run mv "$ct_folder.part" "$ct_folder"
}

ct_clock
ct_run mkdir -p "$ct_home/pieces"

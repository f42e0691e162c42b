# Second part of the start of an instance: makes the environment, then runs the program.
#
# Variables of the first part: ct_home, ct_uv (name of the piece with uv), ct_environment (folder of wheels and
# requirements), ct_code (folder of the code), ct_prepares (name of the build of an image, or nothing), ct_python (its
# versions, >=3.11), ct_setup (lines of shell), ct_program (words of the program, quoted), ct_sealed (name
# of the piece with the secrets, or nothing) and ct_key (of that piece).

UV_CACHE_DIR=$ct_home/uv-cache UV_PYTHON_INSTALL_DIR=$ct_home/python UV_NO_PROGRESS=1
: "${UV_SYSTEM_CERTS:=1}"
export UV_CACHE_DIR UV_PYTHON_INSTALL_DIR UV_NO_PROGRESS UV_SYSTEM_CERTS
ct_bin=$ct_home/${ct_uv%.gz}
ct_venv=$ct_home/env-${ct_environment##*-}

# ct_install OPTIONS...: install into the environment.
ct_install() {
    ct_run "$ct_bin" pip install --quiet --python "$ct_venv/bin/python" "$@"
}

# ct_install_list FILE: install a list of exact versions with digests, which decide among several indexes.
ct_install_list() {
    [ ! -s "$ct_environment/$1" ] ||
        ct_install --no-deps --require-hashes --index-strategy unsafe-best-match -r "$ct_environment/$1"
}

# ct_make_venv PYTHON OPTIONS...: make the environment for a Python.
ct_make_venv() {
    "$ct_bin" venv --quiet --no-project --python "$@" "$ct_venv"
}

ct_step environment
if [ ! -x "$ct_bin" ]; then
    ct_out=$({ gzip -dc "$ct_home/pieces/$ct_uv" >"$ct_bin.part"; } 2>&1) || ct_fail "${ct_out:-$ct_uv cannot be unpacked}"
    ct_run chmod 755 "$ct_bin.part"
    ct_out=$("$ct_bin.part" --version 2>&1) || ct_fail "uv does not run here: $ct_out"
    ct_run mv "$ct_bin.part" "$ct_bin"
fi
if [ ! -e "$ct_venv/worker-installed" ]; then
    ct_run rm -rf "$ct_venv"
    # One that uv brings is the oldest, for which the requirements have wheels; the newest may be weeks old.
    ct_oldest=${ct_python#*>=}
    ct_oldest=${ct_oldest%%,*}
    ct_out=$(ct_make_venv "$ct_python" --no-python-downloads 2>&1) || ct_out=$(ct_make_venv "$ct_oldest" 2>&1) ||
        ct_fail "no Python $ct_oldest or later: use an image that has one, or set UV_PYTHON_INSTALL_MIRROR in \
run.environment to a mirror of uv's builds of Python: $ct_out"
    ct_install_list worker.txt
    ct_install --no-deps --offline "$ct_environment"/wheels/*.whl
    ct_run touch "$ct_venv/worker-installed"
fi
ct_env=$ct_venv
VIRTUAL_ENV=$ct_venv PATH=$ct_venv/bin:$PATH
export VIRTUAL_ENV PATH

if [ -n "$ct_sealed" ]; then
    # An input cannot be seen by other processes, unlike arguments and variables.
    ct_out=$(printf %s "$ct_key" | python -P -m cloud_tasks.worker.unseal "$ct_home/pieces/$ct_sealed" "$ct_home/secrets") ||
        ct_fail "secrets: ${ct_out:-they cannot be unpacked}"
    ct_secrets=$ct_out ct_key=
    CLOUD_TASKS_SECRETS_DIR=$ct_secrets/tasks
    export CLOUD_TASKS_SECRETS_DIR
    ct_run rm -f "$ct_home/pieces/$ct_sealed"
fi

ct_step requirements
if [ ! -e "$ct_venv/requirements-installed" ]; then
    ct_install_list requirements.txt
    ct_run touch "$ct_venv/requirements-installed"
fi

if [ -n "$ct_prepares" ]; then
    # The startup script, with addresses and variables of the user, is kept by cloud-init and by the agent of Azure. Ids
    # and seeds of a machine are made anew on each machine that has none.
    ct_root=${CLOUD_TASKS_BOOT_ROOT:-}
    ct_kept=$ct_root/var/lib
    rm -rf "$ct_kept/cloud/instances" "$ct_kept/cloud/instance" "$ct_kept/waagent/CustomData" "$ct_kept/waagent/ovf-env.xml"
    rm -f "$ct_kept/systemd/random-seed"
    # Made anew, not emptied: it may be a link to the file of another root folder.
    rm -f "$ct_root/etc/machine-id" && : >"$ct_root/etc/machine-id"
    sync
    printf '\ncloud-tasks: everything is installed for %s\n' "$ct_prepares"
    exec sleep 3600
fi

cd "$ct_code" || ct_fail "the folder of the code is missing"
if [ -n "$ct_setup" ]; then
    ct_step setup
    printf '%s\n' "$ct_setup" >"$ct_home/setup.sh"
    if ! sh -e "$ct_home/setup.sh" >"$ct_home/setup.log" 2>&1 </dev/null; then
        cat "$ct_home/setup.log"
        ct_fail "$(tail -n 1 "$ct_home/setup.log")"
    fi
    cat "$ct_home/setup.log"
fi

ct_step program
CLOUD_TASKS_START_STEPS=${ct_steps% } CLOUD_TASKS_STARTED_FILE=$ct_home/started
export CLOUD_TASKS_START_STEPS CLOUD_TASKS_STARTED_FILE
rm -f "$CLOUD_TASKS_STARTED_FILE"
eval "set -- $ct_program"
CLOUD_TASKS_WORKER_SECRETS=${ct_secrets:+$ct_secrets/worker.json} "$@"
ct_status=$?
if [ ! -e "$CLOUD_TASKS_STARTED_FILE" ]; then
    ct_out=
    if [ "$1" = python ]; then
        shift
        ct_out=$(timeout 60 python -P -m cloud_tasks.worker.import_check --main "$@" 2>&1 </dev/null)
    fi
    # Of a program that ends itself, the last line before may say why.
    ct_said=$(printf '%s\n' "${ct_out%import_check: *}" | grep . | tail -n 1)
    case $ct_out in
    *"import_check: "*" with exit code "*) ct_fail "${ct_out##*import_check: }${ct_said:+: $ct_said}" ;;
    *"import_check: "*) ct_fail "${ct_out##*import_check: }" ;;
    esac
    ct_fail "it ended with exit code $ct_status before its worker started"
fi
ct_forget
exit "$ct_status"

"""Shell program with which an instance downloads what a `Download` describes, before anything is installed.

It needs a POSIX shell with the standard utilities, and curl or Python.

Invariants, each with a test:

1. Address, headers and token are in no argument of a process, which other users of the instance can read, and in no
   file: curl and Python read them from standard input.
2. A failed download leaves no file, and one line on standard error: what was to be downloaded, the HTTP status, and
   what the store says.
3. What may pass is repeated: a server or network that does not answer, too many requests, a metadata service that does
   not know its identity yet. Anything else fails at once.
4. No redirection is followed, so that neither token nor headers reach another server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from cloud_tasks.escape import shell_word
from cloud_tasks.plugin.downloads import Download

__all__ = ["DOWNLOAD_FUNCTION", "download_command"]

_PYTHON = """
import json, shutil, sys, urllib.error, urllib.request
class Refuse(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_): pass
url, headers, handlers = "", {}, [Refuse]
for line in sys.stdin:
    key, _, value = line.partition(" = ")
    if key == "url":
        url = json.loads(value)
    elif key == "header":
        name, _, text = json.loads(value).partition(": ")
        headers[name] = text
    elif key == "noproxy":
        handlers.append(urllib.request.ProxyHandler({}))
try:
    file = sys.stdout.buffer if sys.argv[1] == "-" else open(sys.argv[1], "wb")
except OSError as error:
    print(error)
    sys.exit(23)
try:
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.build_opener(*handlers).open(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    shutil.copyfileobj(answer, file)
    file.flush()
    if answer.length:
        raise OSError("the answer is incomplete")
except Exception as error:
    print(getattr(error, "reason", None) or error or type(error).__name__)
    sys.exit(23 if getattr(error, "errno", 0) in (27, 28, 122) else 7)
print("", answer.code, sep="\\n", end="")
""".strip()
"""Prints what curl does, and ends with its exit codes: 23 for a file that cannot be written (EFBIG, ENOSPC, EDQUOT)."""

DOWNLOAD_FUNCTION = rf"""
cloud_tasks_download() (
    set +eufC
    umask 077
    to=$1 place=$2 request=$3 token_place=$4 token_request=$5
    line='
'
    call() {{
        if command -v curl >/dev/null 2>&1; then
            said=$(printf '%s\n' "$1" | curl -qsSgK - --connect-timeout 10 --speed-limit 1000 --speed-time 30 \
                -o "$2" -w '\n%{{http_code}}' 2>&1)
        elif command -v python3 >/dev/null 2>&1; then
            said=$(printf '%s\n' "$1" | python3 -c {shell_word(_PYTHON)} "$2" 2>&1)
        else
            said='neither curl nor python3 is installed'
            (exit 127)
        fi
        code=$? status=${{said##*"$line"}} said=${{said%"$line"[0-5]??}}
        case $code in
            0) ;;
            23) status=local said="cannot write $2; is the disk full? ($said)" ;;
            127) status=local ;;
            *) status=none ;;
        esac
    }}
    attempt() {{
        what="cannot download $place" header='' again=''
        if [ -n "$token_request" ]; then
            what="$what: no token of $token_place"
            call "$token_request" -
            case $status in
                200) ;;
                404 | 410) again=1; return ;;
                *) return ;;
            esac
            token=$(printf %s "$said" | tr -d '\t\n\r ' |
                sed -n 's,\\/,/,g; s,.*"access_token":"\([A-Za-z0-9._~+/=-]*\)".*,\1,p')
            said='the answer has no access_token' status=none
            [ -n "$token" ] || return
            header="header = \"Authorization: Bearer $token\""
            what="cannot download $place"
        fi
        call "$request$line$header" "$to"
        case $status in
            200) exit 0 ;;
            [1-5]??) said=$(head -c 4000 "$to" | tr -d '\000') ;;
        esac
    }}
    tries=0 pause=1
    while :; do
        attempt
        tries=$((tries + 1))
        case $again$status in none | 408 | 429 | 5?? | 1???) ;; *) break ;; esac
        [ "$tries" -lt 8 ] || break
        sleep "$pause"
        pause=$((pause < 10 ? pause * 2 : 20))
    done
    rm -f "$to"
    said=$(printf %s "$said" | LC_ALL=C tr -s '\000-\040\177' ' ')
    part() {{
        printf %s "$said" | LC_ALL=C sed -n "s|.*$1.*|\1|p"
    }}
    element() {{
        part "<$1>\([^<]*\)</$1>"
    }}
    string() {{
        part "\"$1\" *: *\"\([^\"]*\)\""
    }}
    code=$(element Code)
    if [ -n "$code" ]; then
        text="$code: $(element Message) $(element Details)"
    else
        text=$(string message)
        text=${{text:-$(string error_description)}}
        text=${{text:-$(printf %s "$said" | LC_ALL=C sed 's|<[^>]*>||g')}}
    fi
    case $status in [1-5]??) what="$what: HTTP $status" ;; *) what="$what:" ;; esac
    printf '%s %.300s\n' "$what" "$text" | sed 's| *$||' >&2
    exit 1
)
""".strip()
"""Definition of the shell function that the lines of `download_command` call."""


def download_command(download: Download, *, to: str) -> str:
    """Return a command, of several lines, that calls the function of `DOWNLOAD_FUNCTION` for one file.

    It succeeds once the whole file is written, with access for its owner only. It fails with one line on standard
    error, after eight attempts within about two minutes if the reason may pass.

    Args:
        to: Path of the file as a word of the shell: ``"$folder/code.tar.gz"``, quotes included.
    """
    words = (
        _place(download.url),
        "\n".join(_request(download.url, download.headers)),
        _place(download.token_url),
        "\n".join([*_request(download.token_url, download.token_headers), 'noproxy = "*"'])
        if download.token_url
        else "",
    )
    return f"cloud_tasks_download {to} {' '.join(shell_word(word) for word in words)}"


def _place(url: str) -> str:
    return url.partition("?")[0]


def _request(url: str, headers: Mapping[str, str]) -> Iterator[str]:
    """Yield lines of a configuration file of curl. For printable ASCII, its strings are those of JSON."""
    yield f"url = {json.dumps(url)}"
    if "/." in _place(url):
        yield "path-as-is"
    for name, value in headers.items():
        yield f"header = {json.dumps(f'{name}: {value}')}"

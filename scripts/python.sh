# shellcheck shell=bash
# Sourced by the scripts beside it: sets `root` (the checkout) and `python` (a Python that is new enough).
# Works with the bash 3.2 of macOS.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

new_enough() {
    [ -n "$1" ] && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# The environment's own Python first: what it was made with does not change under it. Then what `python3` means here.
find_python() {
    local each
    for each in "${MESHNODE_SETUP_PYTHON:-}" "$root/.venv/bin/python" python3 python3.13 python3.12 python3.11 python3.14; do
        if new_enough "$each"; then
            # shellcheck disable=SC2034 # used by the scripts that source this
            python=$each
            return 0
        fi
    done
    return 1
}

python_command() {
    local sudo=""
    if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null 2>&1; then sudo="sudo "; fi
    if command -v apt-get >/dev/null 2>&1; then
        echo "${sudo}apt-get install -y python3 python3-venv python3-dev"
    elif command -v dnf >/dev/null 2>&1; then
        echo "${sudo}dnf install -y python3.12 python3.12-devel"
    elif command -v pacman >/dev/null 2>&1; then
        echo "${sudo}pacman -S --needed python"
    elif command -v zypper >/dev/null 2>&1; then
        echo "${sudo}zypper install -y python312 python312-devel"
    elif command -v apk >/dev/null 2>&1; then
        echo "${sudo}apk add python3 python3-dev"
    elif command -v brew >/dev/null 2>&1; then
        echo "brew install python@3.12"
    else
        echo "see https://www.python.org/downloads/"
    fi
}

need_python() {
    if find_python; then return 0; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "As root on Debian or Ubuntu, running: apt-get update; $(python_command)" >&2
        apt-get update >/dev/null && DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends python3 python3-venv python3-dev >/dev/null
        if find_python; then return 0; fi
    fi
    echo "Missing: Python 3.11 or newer. Install: $(python_command)" >&2
    exit 40
}

need_python

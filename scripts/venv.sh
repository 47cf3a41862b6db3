# Sourced by the other scripts: `use_venv DIR EXTRAS` makes a virtual environment if there is none,
# installs this package with these extras if setup.cfg has changed since, and puts it on the PATH.
use_venv() {
  local dir=$1 extras=$2 python=${PYTHON:-python3}
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || {
    echo "$python is not Python 3.10 or newer; say which to use: PYTHON=python3.12 bash $0" >&2
    return 1
  }
  [ -x "$dir/bin/python" ] || "$python" -m venv "$dir"
  local stamp="$dir/.installed-$extras"
  if ! [ "$stamp" -nt setup.cfg ]; then
    echo "Installing gmm_np[$extras] into $dir (the first time takes a while) ..." >&2
    "$dir/bin/python" -m pip install --quiet --editable ".[$extras]"
    touch "$stamp"
  fi
  PATH="$PWD/$dir/bin:$PATH"
}

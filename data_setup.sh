#!/bin/sh
# Fills data/ with the course's data. Arguments go to `facekit data`:
#   ./data_setup.sh                                   rendered faces, sized for this machine
#   ./data_setup.sh --profile smoke --out data-smoke  a few, elsewhere
#   ./data_setup.sh --source folder PATH              photographs, a folder for each person
#   ./data_setup.sh --source kaggle --term F23        the homework's own, for who is in the class
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python="$here/.venv/bin/python"
[ -x "$python" ] || python=$(command -v python3 || command -v python)
exec "$python" -m facekit data "$@"

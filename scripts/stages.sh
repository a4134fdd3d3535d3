# Stages of a long recipe, for the scripts that source this: what is finished is left out when it is run again.
#
# They set OUT, the folder of the results, SCALE, of all numbers of steps, SETTINGS, what the results depend on, and
# PYTHON. OUT/times.txt gets the seconds of every stage.
mkdir -p "$OUT"
[ -e "$OUT/settings.txt" ] || echo "$SETTINGS" > "$OUT/settings.txt"
if [ "$(cat "$OUT/settings.txt")" != "$SETTINGS" ]; then
  echo "$OUT was begun with $(cat "$OUT/settings.txt"), not $SETTINGS: give another folder" >&2
  exit 1
fi

stage() { # a name, the file or folder in OUT that is there at its end, and its command
  local name=$1 result=$OUT/$2 start=$SECONDS
  shift 2
  [ -e "$OUT/.done-$name" ] && return
  "$@"
  # A run that is told to stop keeps what it has and ends well.
  [ -e "$result" ] || { echo "$name is not finished: there is no $result; run again to go on" >&2; exit 1; }
  touch "$OUT/.done-$name"
  echo "$name $((SECONDS - start)) s" | tee -a "$OUT/times.txt"
}

script() { # one of scripts/ and its arguments
  local name=$1
  shift
  "$PYTHON" -m "scripts.$name" "$@"
}

steps() { # a number, scaled, but at least 8
  "$PYTHON" -c "import sys; print(max(8, round(float(sys.argv[1]) * float(sys.argv[2]))))" "$1" "$SCALE"
}

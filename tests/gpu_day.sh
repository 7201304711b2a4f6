#!/usr/bin/env bash
# What to run on a machine with a GPU, in at most eight minutes: correctness first, then speed.
#     bash tests/gpu_day.sh OUT [DEVICE] [--small]
# Records go to OUT; docs/performance.md quotes them. --small is for trying the script on a CPU.
set -euo pipefail
out=$1 device=${2:-cuda} small=${3:-}
out=$(realpath -m "$out")
mkdir -p "$out"
cd "$(dirname "$0")"

python device_check.py "$device" $small | tee "$out/correctness.txt"

repeats=5 sizes="20 200 2000"
if [ -n "$small" ]; then repeats=1 sizes="2 4"; fi
bench() { # NAME WORKLOAD FLAGS...
  local name=$1
  shift
  metarl bench "$@" --device "$device" --repeats "$repeats" --json "$out/$name.json" |
    tee "$out/$name.txt"
}
for tasks in $sizes; do bench "nav-$tasks" nav-20 --tasks "$tasks" --task-chunk 2000; done
bench promp nav-20-promp
bench compiled nav-20 --compile
metarl bench sim --families forager --device "$device" --repeats "$repeats" | tee "$out/simulation.txt"
echo "done: $(ls "$out" | wc -l) files in $out"

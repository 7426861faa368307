#!/usr/bin/env bash
# Starts a program on several hosts by ssh, with the mpirun of Open MPI or MPICH:
#
#   deploy/mpirun.sh HOSTFILE RANKS program [argument ...]
#
# HOSTFILE: one host per line, with its number of ranks:
#
#   node1 slots=4
#   node2 slots=4
#
# MPIRUN names another mpirun than the one in PATH. It must belong to the MPI with which trireme was
# built: `trireme doctor` names it. A command that begins the run, and goes on from its newest
# checkpoint when it is called again:
#
#   deploy/mpirun.sh hosts 8 trireme train run.toml --resume auto run.directory=/shared/run
#
# To save a checkpoint and stop, send SIGUSR1 to this process: mpirun passes it on, and there is no
# time limit. After Ctrl-C or SIGTERM mpirun kills the ranks when SAVE_SECONDS (120) have passed, or
# with MPICH soon.
set -euo pipefail

if [[ $# -lt 3 ]]; then
  sed -n '2,21s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
hosts=$1
ranks=$2
shift 2
mpirun=${MPIRUN:-mpirun}
if [[ ! -r $hosts ]]; then
  echo "$0: cannot read the host file $hosts" >&2
  exit 2
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# exec: signals for this process then go to mpirun. Ranks are numbered host by host, and not bound:
# trireme has threads besides those that compute.
if [[ $("$mpirun" --version) != *HYDRA* ]]; then
  exec "$mpirun" -n "$ranks" --hostfile "$hosts" --map-by slot --bind-to none \
    --mca odls_base_sigkill_timeout "${SAVE_SECONDS:-120}" -x OMP_NUM_THREADS "$@"
fi
# MPICH writes node1:4.
exec "$mpirun" -n "$ranks" -f <(sed -E 's/[[:space:]]+slots=/:/' "$hosts") -bind-to none \
  -genvlist OMP_NUM_THREADS "$@"

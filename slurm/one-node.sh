#!/bin/bash
#SBATCH --job-name=tandem
#SBATCH --nodes=1
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
##SBATCH --gpus-per-node=2
#
# One node, started by mpirun:    sbatch slurm/one-node.sh jobs/demo.yaml [--set KEY=VALUE]...
#
# --ntasks is the sum of the ranks in the job's layout; with device: cuda ask for as many GPUs
# (remove one # of the last line above). Two minutes before the time is over, Slurm signals this
# script, Tandem seals what is finished and ends with exit status 75, and the job goes back into the
# queue to continue where it was: at most MAX_RESTARTS times (100), and not when a restart brought no token,
# as a model that loads longer than the warning lasts would. It can be submitted again at any time for the same effect.

TANDEM=${TANDEM:-build/tandem}

mpirun -n "$SLURM_NTASKS" --bind-to none \
    "$TANDEM" run "$@" --max-restarts "${MAX_RESTARTS:-100}" &
child=$!
trap 'kill -USR1 $child' USR1
until wait $child; status=$?; ! kill -0 $child 2>/dev/null; do :; done # a signal ends wait, not the job

[ $status = 75 ] && scontrol requeue "$SLURM_JOB_ID"
exit $status

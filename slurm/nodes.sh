#!/bin/bash
#SBATCH --job-name=tandem
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
##SBATCH --gpus-per-node=8
#
# Several equal nodes, started by srun:    sbatch slurm/nodes.sh JOB.yaml [--set KEY=VALUE]...
#
# nodes x ntasks-per-node is the sum of the ranks in the job's layout; the first ones are the
# attention ranks. What happens at the end of the time: see one-node.sh. Does your Open MPI work
# with another plugin than pmix? `srun --mpi=list` names what Slurm has.

TANDEM=${TANDEM:-build/tandem}
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it over by itself

srun --mpi=pmix --kill-on-bad-exit=1 "$TANDEM" run "$@" --max-restarts "${MAX_RESTARTS:-100}" &
child=$!
trap 'kill -USR1 $child' USR1
until wait $child; status=$?; ! kill -0 $child 2>/dev/null; do :; done # a signal ends wait, not the job

[ $status = 75 ] && scontrol requeue "$SLURM_JOB_ID"
exit $status

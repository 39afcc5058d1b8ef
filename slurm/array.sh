#!/bin/bash
#SBATCH --job-name=tandem
#SBATCH --array=1-8
#SBATCH --nodes=1
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
##SBATCH --partition=
##SBATCH --account=
#
# A large prompts file cut over the tasks of an array, each a job of one node:
#
#     sbatch --array=1-20 slurm/array.sh JOB.yaml --set output.file=completions-%a.h5
#
# Every task decodes its part of the rows (prompts.part: slurm); when all are done,
#
#     tandem merge completions-*.h5 completions.h5
#
# makes one output of them. What happens at the end of the time:
# see one-node.sh.

# module load openmpi
TANDEM=${TANDEM:-build/tandem}

mpirun -n "$SLURM_NTASKS" --bind-to none "$TANDEM" run "$@" --max-restarts "${MAX_RESTARTS:-100}" --set prompts.part=slurm &
child=$!
trap 'kill -USR1 $child' USR1
until wait $child; status=$?; ! kill -0 $child 2>/dev/null; do :; done # a signal ends wait, not the job

[ $status = 75 ] && scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
exit $status

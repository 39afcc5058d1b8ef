# cluster.bash - a Slurm cluster of two nodes on this machine, to be sourced by tests.
#
# cluster_start brings up munged, slurmctld and two slurmd, all on 127.0.0.1 with ports, keys and
# folders of their own, and leaves SLURM_CONF set; cluster_stop ends them. Each slurmd lives in its
# own UTS and mount namespace with its own host name, /dev/shm and PMIx folder: in one, the nodes'
# shared memory and PMIx files would collide. Needs root, and the packages slurm-wlm and munge.

CLUSTER=
CLUSTER_PIDS=()

skip() {
    echo "$*"
    exit 77
}

# A job that is queued again waits for cred_expire seconds; 120 would be the default.
cluster_conf() {
    local host
    host=$(hostname -s)
    cat >"$CLUSTER/slurm.conf" <<END
ClusterName=tandem
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$1
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$CLUSTER/munge.socket,cred_expire=10
StateSaveLocation=$CLUSTER/state
SlurmdSpoolDir=$CLUSTER/spool-%n
SlurmctldPidFile=$CLUSTER/slurmctld.pid
SlurmdPidFile=$CLUSTER/%n.pid
SlurmctldLogFile=$CLUSTER/slurmctld.log
SlurmdLogFile=$CLUSTER/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
KillWait=5
NodeName=alpha NodeHostname=alpha NodeAddr=127.0.0.1 Port=$(($1 + 1)) CPUs=4 RealMemory=4000
NodeName=beta NodeHostname=beta NodeAddr=127.0.0.1 Port=$(($1 + 2)) CPUs=4 RealMemory=4000
PartitionName=all Nodes=alpha,beta Default=YES MaxTime=INFINITE State=UP
END
    echo "PMIxCliTmpDirBase=$CLUSTER/pmix" >"$CLUSTER/mpi.conf"
}

# cluster_node NAME: its slurmd, in namespaces of its own.
cluster_node() {
    printf '127.0.0.1 localhost %s alpha beta\n' "$(hostname -s)" >"$CLUSTER/hosts"
    unshare -u -m bash -c '
        hostname "$1" && mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs "$2/pmix" &&
            mount --bind "$2/hosts" /etc/hosts && exec slurmd -D -N "$1"' - "$1" "$CLUSTER" \
        >"$CLUSTER/$1.out" 2>&1 &
    CLUSTER_PIDS+=($!)
}

cluster_start() {
    local program port=$((20000 + RANDOM % 20000)) i
    [ "$(id -u)" = 0 ] || skip "bringing up a Slurm cluster needs root"
    for program in munged slurmctld slurmd sbatch srun; do
        command -v $program >/dev/null || skip "$program is missing: apt-get install slurm-wlm munge"
    done
    unshare -u -m true 2>/dev/null || skip "unshare -u -m is not allowed here"
    CLUSTER=$(mktemp -d /tmp/tandem-slurm-XXXXXX)
    trap cluster_stop EXIT
    mkdir "$CLUSTER"/{state,spool-alpha,spool-beta,pmix}
    cluster_conf $port
    export SLURM_CONF=$CLUSTER/slurm.conf
    # What Open MPI needs between two nodes that share an address, and as root.
    export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_tcp_if_include=lo
    export OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    head -c 1024 /dev/urandom >"$CLUSTER/munge.key"
    chmod 400 "$CLUSTER/munge.key"
    munged --force --foreground --key-file="$CLUSTER/munge.key" --socket="$CLUSTER/munge.socket" \
        --pid-file="$CLUSTER/munged.pid" --seed-file="$CLUSTER/munge.seed" \
        --log-file="$CLUSTER/munged.log" >"$CLUSTER/munged.out" 2>&1 &
    CLUSTER_PIDS+=($!)
    for ((i = 0; i < 100; i++)); do
        [ -S "$CLUSTER/munge.socket" ] && break
        sleep 0.1
    done
    slurmctld -D >"$CLUSTER/slurmctld.out" 2>&1 &
    CLUSTER_PIDS+=($!)
    cluster_node alpha
    cluster_node beta
    for ((i = 0; i < 200; i++)); do
        [ "$(sinfo -h -o %t -N 2>/dev/null | grep -c idle)" = 2 ] && return
        sleep 0.1
    done
    echo "the cluster did not come up:"
    tail -n 20 "$CLUSTER"/*.out "$CLUSTER"/*.log
    exit 1
}

cluster_stop() {
    local status=$? pid
    [ -n "$CLUSTER" ] || return
    scancel --user=root >/dev/null 2>&1 && sleep 0.5
    for ((pid = ${#CLUSTER_PIDS[@]} - 1; pid >= 0; pid--)); do
        kill "${CLUSTER_PIDS[pid]}" 2>/dev/null
    done
    sleep 0.5
    for pid in "${CLUSTER_PIDS[@]}"; do
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    if [ $status != 0 ] && [ $status != 77 ]; then
        tail -n 5 "$CLUSTER"/*.log
    fi
    rm -rf "$CLUSTER"
    CLUSTER=
    return $status
}

# job_state ID: "COMPLETED", "PENDING", ... of a job.
job_field() {
    scontrol show job "$1" | grep -o "$2=[^ ]*" | head -n 1 | cut -d= -f2
}

# job_wait ID SECONDS STATE: until the job has the state; fails and shows it when it does not come.
job_wait() {
    local i state
    for ((i = 0; i < $2 * 5; i++)); do
        state=$(job_field "$1" JobState)
        [ "$state" = "$3" ] && return 0
        case $state in
        FAILED | TIMEOUT | CANCELLED | NODE_FAIL | BOOT_FAIL)
            break ;;
        esac
        sleep 0.2
    done
    echo "job $1 should be $3:"
    scontrol show job "$1"
    return 1
}

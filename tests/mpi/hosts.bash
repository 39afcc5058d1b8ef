# hosts.bash - two hosts on this machine: network namespaces with names of their own and one emulated link
# between them, 1 Gbit/s and 200 us where the kernel has netem, else 1 Gbit/s alone, and it says so. Sourced
# after lib.sh; needs root, ip and tc. Everything is gone when the script ends.

hosts_possible() {
    [ "$(id -u)" = 0 ] && command -v ip tc unshare >/dev/null && ip netns add "tandem$$t" 2>/dev/null &&
        ip netns del "tandem$$t"
}

hosts_up() {
    local i name link="1 Gbit/s and 200 us"
    trap hosts_down EXIT
    for i in 1 2; do
        ip netns add "tandem$$-$i" || return 1
        ip -n "tandem$$-$i" link set lo up
    done
    ip link add "t$$-1" netns "tandem$$-1" type veth peer name "t$$-2" netns "tandem$$-2" || return 1
    for i in 1 2; do
        name=t$$-$i
        ip -n "tandem$$-$i" addr add "10.213.0.$i/24" dev "$name" && ip -n "tandem$$-$i" link set "$name" up &&
            { tc -n "tandem$$-$i" qdisc add dev "$name" root netem delay 200us rate 1gbit 2>/dev/null ||
                { tc -n "tandem$$-$i" qdisc add dev "$name" root tbf rate 1gbit burst 64kb latency 50ms &&
                    link="1 Gbit/s"; }; } || return 1
    done
    [ "$link" != "1 Gbit/s" ] || echo "not tried: a delay of 200 us, since this kernel has no netem"
    echo "two hosts: $link"
    cat >"$work/agent" <<A
#!/bin/bash
# What Open MPI takes for ssh: HOST COMMAND...
host=\$1
shift
exec ip netns exec "tandem$$-\${host#node}" unshare -u bash -c 'hostname "\$0"; exec bash -c "\$1"' "\$host" "\$*"
A
    chmod +x "$work/agent"
}

hosts_down() {
    ip netns del "tandem$$-1" 2>/dev/null
    ip netns del "tandem$$-2" 2>/dev/null
    rm -rf "$work"
}

# hosts_mpirun RANKS PROGRAM... - that many ranks on each host; turns=yes: ranks that follow each other are on
# one host and the other in turns.
hosts_mpirun() {
    local ranks=$1 map=()
    shift
    [ -n "${turns:-}" ] && map=(--map-by node)
    "$work/agent" node1 exec mpirun "${map[@]}" --allow-run-as-root --oversubscribe --bind-to none \
        --host "node1:$ranks,node2:$ranks" --mca plm_rsh_agent "$work/agent" --mca pml ob1 --mca btl self,vader,tcp \
        --mca btl_vader_single_copy_mechanism none --mca btl_tcp_if_include 10.213.0.0/24 \
        --mca oob_tcp_if_include 10.213.0.0/24 --mca mpi_yield_when_idle 1 "$(printf '%q ' "$@")"
}

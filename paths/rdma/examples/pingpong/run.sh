#!/bin/sh
# Lays one cable between two network namespaces, soft-RoCE on both ends, and runs every check of
# this example over it. Usage, as root: run.sh path/to/pingpong
# Needs a kernel whose rxe knows network namespaces (7.x).
set -u
P=$1
export PATH="$PATH:/usr/sbin:/sbin"
modprobe -a rdma_rxe rdma_ucm ib_uverbs veth sch_netem
for s in a h; do ip netns add $s; ip netns exec $s ip link set lo up; done
ip link add ta type veth peer name th
ip link set ta netns a; ip link set th netns h
for s in a h; do
  n=$([ $s = a ] && echo 1 || echo 2)
  ip netns exec $s ip link set t$s mtu 4200
  ip netns exec $s ip addr add 10.9.1.$n/24 dev t$s
  ip netns exec $s ip link set t$s up
done
sleep 1
A="ip netns exec a"; H="ip netns exec h"
status=0
run() { echo "--- $*"; timeout 60 "$@" || { echo "status $?: $*"; status=1; }; }

echo "--- before there is a device"
run $H "$P" connect 10.9.1.1:4420
for s in a h; do ip netns exec $s rdma link add rx$s type rxe netdev t$s; done
sleep 1
run $H "$P" devices
$A "$P" serve 10.9.1.1:4420 & server=$!
sleep 1
run $H "$P" check 10.9.1.1:4420
run $H setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock prlimit --memlock=1048576 "$P" memlock 10.9.1.1:4420
run $H "$P" silence 10.9.1.1:4420 "tc qdisc add dev th root netem loss 100%"
$H tc qdisc del dev th root
run $H "$P" silence 10.9.1.1:4420 "ip link set th down"
run $H "$P" connect 10.9.1.1:4420
run $H "$P" silence 10.9.1.1:4420 "ip -n a link set ta down"
run $H "$P" connect 10.9.1.1:4420
run $H "$P" events rxh "sleep 1; ip link set th down; sleep 0.5; ip link set th up"
run $H "$P" connect 10.9.1.1:4420
# Not tried: removing the device under a process. soft-RoCE waits until nobody has it open.
run $H "$P" churn 10.9.1.1:4420
rdma resource show
run $H "$P" kill 10.9.1.1:4420 "$server"
run $H "$P" connect 10.9.1.1:4420
for lib in /usr/lib/*/librdmacm.so.1; do
  run unshare -m sh -c "mount --bind /dev/null $lib && exec $P connect 10.9.1.1:4420"
done
dmesg | grep -iE "rxe|rdma|BUG|WARN|Oops" | tail -5
rdma resource show qp; rdma resource show cm_id
[ $status = 0 ] && echo "PASS all" || echo "FAIL"
exit $status

#!/bin/sh
# Runs the active end against the kernel's own target, over soft-RoCE in loopback (the kernel's
# target lives in the initial namespace). Usage, as root: run-nvmet.sh path/to/pingpong
set -eu
P=$1
N=nqn.2026-11.test:vol1
export PATH="$PATH:/usr/sbin:/sbin"
modprobe -a rdma_rxe rdma_ucm nvmet-rdma veth
modprobe null_blk nr_devices=0
ip link set lo up
ip link add ta type veth peer name th
for d in ta th; do ip link set $d mtu 4200 up; done
ip addr add 10.9.1.1/24 dev ta
rdma link add rxe0 type rxe netdev ta
mount -t configfs none /sys/kernel/config 2>/dev/null || :
mkdir /sys/kernel/config/nullb/n0
cd /sys/kernel/config/nullb/n0
echo 1 > memory_backed; echo 1024 > size; echo 4096 > blocksize; echo 0 > irqmode; echo 1 > power
cd /sys/kernel/config/nvmet
mkdir subsystems/$N
echo 1 > subsystems/$N/attr_allow_any_host
mkdir subsystems/$N/namespaces/1
echo /dev/n0 > subsystems/$N/namespaces/1/device_path
echo 1 > subsystems/$N/namespaces/1/enable
mkdir ports/1
cd ports/1
echo rdma > addr_trtype; echo ipv4 > addr_adrfam; echo 10.9.1.1 > addr_traddr; echo 4420 > addr_trsvcid
ln -s /sys/kernel/config/nvmet/subsystems/$N subsystems/
cd /
sleep 1
timeout 60 "$P" nvmet 10.9.1.1:4420 $N || { dmesg | tail -5; exit 1; }
